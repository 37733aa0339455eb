// orasgo does with ORAS's library what the tests need of an ORAS client.
//
// A TARGET is HOST/REPOSITORY:TAG, HOST/REPOSITORY@DIGEST, or oci:DIRECTORY:TAG. Registries are
// spoken to over plain HTTP.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	oras "oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content/file"
	"oras.land/oras-go/v2/content/oci"
	"oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote"
)

const usage = `usage: orasgo copy FROM TO           an image or artifact with all it consists of
       orasgo copy-referrers FROM TO  that, and what refers to it
       orasgo resolve TARGET          prints the descriptor
       orasgo manifest TARGET         prints the manifest as it is
       orasgo tags TARGET             prints the tags, one a line
       orasgo discover TARGET         prints the referrers, a JSON list of descriptors
       orasgo push TARGET TYPE FILE...    makes an artifact; prints its descriptor
       orasgo attach TARGET TYPE FILE...  makes an artifact that refers to TARGET; prints it
       orasgo pull TARGET DIRECTORY   writes the files of an artifact`

// verbs take the context and the arguments after the verb.
var verbs = map[string]struct {
	least int
	run   func(context.Context, []string) error
}{
	"copy":           {2, copyGraph},
	"copy-referrers": {2, copyReferrers},
	"resolve":        {1, resolve},
	"manifest":       {1, manifest},
	"tags":           {1, tags},
	"discover":       {1, discover},
	"push":           {3, push},
	"attach":         {3, attach},
	"pull":           {2, pull},
}

func main() {
	if len(os.Args) < 2 {
		fail(fmt.Errorf("%s", usage))
	}
	verb, known := verbs[os.Args[1]]
	if !known || len(os.Args)-2 < verb.least {
		fail(fmt.Errorf("%s", usage))
	}
	if err := verb.run(context.Background(), os.Args[2:]); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "orasgo:", err)
	os.Exit(1)
}

// open finds the storage that name is in, and its reference there.
func open(name string) (oras.GraphTarget, string, error) {
	if layout, ok := strings.CutPrefix(name, "oci:"); ok {
		directory, tag, _ := strings.Cut(layout, ":")
		store, err := oci.New(directory)
		return store, tag, err
	}
	repository, err := remote.NewRepository(name)
	if err != nil {
		return nil, "", err
	}
	repository.PlainHTTP = true
	return repository, repository.Reference.Reference, nil
}

// find opens a target and resolves its reference.
func find(ctx context.Context, name string) (oras.GraphTarget, ocispec.Descriptor, error) {
	target, reference, err := open(name)
	if err != nil {
		return nil, ocispec.Descriptor{}, err
	}
	found, err := target.Resolve(ctx, reference)
	return target, found, err
}

func copyGraph(ctx context.Context, arguments []string) error {
	from, fromReference, err := open(arguments[0])
	if err != nil {
		return err
	}
	to, toReference, err := open(arguments[1])
	if err != nil {
		return err
	}
	_, err = oras.Copy(ctx, from, fromReference, to, toReference, oras.DefaultCopyOptions)
	return err
}

func copyReferrers(ctx context.Context, arguments []string) error {
	from, fromReference, err := open(arguments[0])
	if err != nil {
		return err
	}
	to, toReference, err := open(arguments[1])
	if err != nil {
		return err
	}
	options := oras.DefaultExtendedCopyOptions
	_, err = oras.ExtendedCopy(ctx, from, fromReference, to, toReference, options)
	return err
}

func resolve(ctx context.Context, arguments []string) error {
	_, found, err := find(ctx, arguments[0])
	if err != nil {
		return err
	}
	return printJSON(found)
}

func manifest(ctx context.Context, arguments []string) error {
	target, reference, err := open(arguments[0])
	if err != nil {
		return err
	}
	_, content, err := oras.FetchBytes(ctx, target, reference, oras.DefaultFetchBytesOptions)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(content)
	return err
}

func tags(ctx context.Context, arguments []string) error {
	target, _, err := open(arguments[0])
	if err != nil {
		return err
	}
	lister, ok := target.(registry.TagLister)
	if !ok {
		return fmt.Errorf("%s cannot list tags", arguments[0])
	}
	names, err := registry.Tags(ctx, lister)
	for _, name := range names {
		fmt.Println(name)
	}
	return err
}

func discover(ctx context.Context, arguments []string) error {
	target, found, err := find(ctx, arguments[0])
	if err != nil {
		return err
	}
	referrers, err := registry.Referrers(ctx, target, found, "")
	if err != nil {
		return err
	}
	return printJSON(referrers)
}

func push(ctx context.Context, arguments []string) error {
	return pushFiles(ctx, arguments[0], nil, arguments[1], arguments[2:])
}

func attach(ctx context.Context, arguments []string) error {
	_, subject, err := find(ctx, arguments[0])
	if err != nil {
		return err
	}
	return pushFiles(ctx, arguments[0], &subject, arguments[1], arguments[2:])
}

// pushFiles packs files as an artifact and copies it to name: with a subject without a tag.
func pushFiles(
	ctx context.Context, name string, subject *ocispec.Descriptor, kind string, paths []string,
) error {
	target, tag, err := open(name)
	if err != nil {
		return err
	}
	store, err := file.New(".")
	if err != nil {
		return err
	}
	defer store.Close()
	options := oras.PackManifestOptions{Subject: subject}
	for _, path := range paths {
		layer, err := store.Add(ctx, filepath.Base(path), "", path)
		if err != nil {
			return err
		}
		options.Layers = append(options.Layers, layer)
	}
	packed, err := oras.PackManifest(ctx, store, oras.PackManifestVersion1_1, kind, options)
	if err != nil {
		return err
	}
	if subject != nil {
		// The subject is there already, so the copy goes no further than to it.
		err = oras.CopyGraph(ctx, store, target, packed, oras.DefaultCopyGraphOptions)
	} else if err = store.Tag(ctx, packed, tag); err == nil {
		_, err = oras.Copy(ctx, store, tag, target, tag, oras.DefaultCopyOptions)
	}
	if err != nil {
		return err
	}
	return printJSON(packed)
}

func pull(ctx context.Context, arguments []string) error {
	from, reference, err := open(arguments[0])
	if err != nil {
		return err
	}
	store, err := file.New(arguments[1])
	if err != nil {
		return err
	}
	defer store.Close()
	_, err = oras.Copy(ctx, from, reference, store, reference, oras.DefaultCopyOptions)
	return err
}

func printJSON(value any) error {
	return json.NewEncoder(os.Stdout).Encode(value)
}
