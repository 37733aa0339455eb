// Command cimage copies images and makes keys with the library of skopeo and podman, because
// Debian builds both without sigstore signatures.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"

	"go.podman.io/image/v5/copy"
	"go.podman.io/image/v5/directory"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/oci/layout"
	cli "go.podman.io/image/v5/pkg/cli/sigstore"
	"go.podman.io/image/v5/signature"
	"go.podman.io/image/v5/signature/signer"
	"go.podman.io/image/v5/signature/sigstore"
	"go.podman.io/image/v5/types"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run does "generate PREFIX PASSPHRASE" or
// "copy [-keep] [-all|-index-only] [-sign-by-sigstore FILE] POLICY REGISTRIES.D SOURCE DESTINATION [KEY PASSPHRASE]".
func run(args []string) error {
	flags := flag.NewFlagSet("cimage", flag.ContinueOnError)
	all := flags.Bool("all", false, "the index with all instances")
	only := flags.Bool("index-only", false, "the index without any instance")
	keep := flags.Bool("keep", false, "the signatures that the source has, too")
	parameters := flags.String("sign-by-sigstore", "", "a file with parameters of a sigstore")
	if len(args) > 0 {
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
	}
	rest := flags.Args()
	switch {
	case len(rest) == 2 && args[0] == "generate":
		return generate(rest[0], rest[1])
	case (len(rest) == 4 || len(rest) == 6) && args[0] == "copy":
		options := &copy.Options{RemoveSignatures: !*keep && len(rest) == 4 && *parameters == ""}
		if *all {
			options.ImageListSelection = copy.CopyAllImages
		}
		if *only {
			options.ImageListSelection = copy.CopySpecificImages
		}
		if *parameters != "" {
			made, err := cli.NewSignerFromParameterFile(*parameters, &cli.Options{})
			if err != nil {
				return err
			}
			defer made.Close()
			options.Signers = []*signer.Signer{made}
		}
		if len(rest) == 6 {
			options.SignBySigstorePrivateKeyFile = rest[4]
			options.SignSigstorePrivateKeyPassphrase = []byte(rest[5])
		}
		return copyImage(rest[:4], options)
	}
	return fmt.Errorf("usage: cimage generate|copy ...")
}

func generate(prefix, passphrase string) error {
	pair, err := sigstore.GenerateKeyPair([]byte(passphrase))
	if err != nil {
		return err
	}
	if err := os.WriteFile(prefix+".private", pair.PrivateKey, 0o600); err != nil {
		return err
	}
	return os.WriteFile(prefix+".pub", pair.PublicKey, 0o644)
}

func copyImage(args []string, options *copy.Options) error {
	policy, err := signature.NewPolicyFromFile(args[0])
	if err != nil {
		return err
	}
	decide, err := signature.NewPolicyContext(policy)
	if err != nil {
		return err
	}
	defer decide.Destroy()
	source, err := parse(args[2])
	if err != nil {
		return err
	}
	destination, err := parse(args[3])
	if err != nil {
		return err
	}
	system := &types.SystemContext{
		RegistriesDirPath:           args[1],
		DockerInsecureSkipTLSVerify: types.OptionalBoolTrue,
	}
	options.SourceCtx, options.DestinationCtx = system, system
	_, err = copy.Image(context.Background(), decide, destination, source, options)
	return err
}

// parse takes docker://NAME, dir:PATH and oci:PATH:TAG.
func parse(name string) (types.ImageReference, error) {
	if path, found := strings.CutPrefix(name, "dir:"); found {
		return directory.NewReference(path)
	}
	if place, found := strings.CutPrefix(name, "oci:"); found {
		return layout.ParseReference(place)
	}
	return docker.ParseReference(strings.TrimPrefix(name, "docker:"))
}
