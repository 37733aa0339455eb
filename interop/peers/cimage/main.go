// Command cimage copies images and makes keys with the library of skopeo and podman, because
// Debian builds both without sigstore signatures.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"go.podman.io/image/v5/copy"
	"go.podman.io/image/v5/directory"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/signature"
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
// "copy POLICY REGISTRIES.D SOURCE DESTINATION [KEY PASSPHRASE]".
func run(args []string) error {
	switch {
	case len(args) == 3 && args[0] == "generate":
		return generate(args[1], args[2])
	case (len(args) == 5 || len(args) == 7) && args[0] == "copy":
		return copyImage(args[1:])
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

func copyImage(args []string) error {
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
	options := &copy.Options{SourceCtx: system, DestinationCtx: system, RemoveSignatures: true}
	if len(args) > 4 {
		options.RemoveSignatures = false
		options.SignBySigstorePrivateKeyFile = args[4]
		options.SignSigstorePrivateKeyPassphrase = []byte(args[5])
	}
	_, err = copy.Image(context.Background(), decide, destination, source, options)
	return err
}

// parse takes docker://NAME and dir:PATH.
func parse(name string) (types.ImageReference, error) {
	if path, found := strings.CutPrefix(name, "dir:"); found {
		return directory.NewReference(path)
	}
	return docker.ParseReference(strings.TrimPrefix(name, "docker:"))
}
