// Package bucket opens the blob store that a URL names. It knows which stores there are; what is in them is their users'.
//
// A folder is file:///absolute/path, or file://relative/path beside the configuration. s3://, gs:// and azblob:// name a
// bucket, with what its driver takes as query (?region=…, ?prefix=…). Credentials come from where the store's own tools take
// them: environment, profile, or the machine's role. They are never part of the URL.
package bucket

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gocloud.dev/blob"
	_ "gocloud.dev/blob/azureblob" // azblob://
	"gocloud.dev/blob/fileblob"
	_ "gocloud.dev/blob/gcsblob" // gs://
	_ "gocloud.dev/blob/s3blob"  // s3://
)

// schemes are the stores that can be had.
var schemes = []string{"file", "s3", "gs", "azblob"}

// Validate says what is wrong with a URL, without I/O.
func Validate(address string) error {
	u, err := url.Parse(address)
	if err != nil {
		return errors.New("not a URL")
	}
	if !slices.Contains(schemes, u.Scheme) {
		return fmt.Errorf("%q is no blob store; want one of %s", u.Scheme+"://", strings.Join(schemes, "://, ")+"://")
	}
	if u.Host == "" && (u.Scheme != "file" || u.Path == "" || u.Path == "/") {
		return fmt.Errorf("%s:// names no %s", u.Scheme, map[bool]string{true: "folder", false: "bucket"}[u.Scheme == "file"])
	}
	return nil
}

// Open opens the store. A folder that is not there is made; relative ones begin at dir.
func Open(ctx context.Context, address, dir string) (*blob.Bucket, error) {
	if err := Validate(address); err != nil {
		return nil, fmt.Errorf("open %s: %w", address, err)
	}
	u, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", address, err)
	}
	if u.Scheme == "file" {
		return openFolder(u, dir)
	}
	b, err := blob.OpenBucket(ctx, address)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", address, err)
	}
	return b, nil
}

// openFolder opens a folder. Files appear whole: they are written beside and moved.
func openFolder(u *url.URL, dir string) (*blob.Bucket, error) {
	path := filepath.FromSlash(u.Host + u.Path)
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("open %s: %w", u, err)
	}
	b, err := fileblob.OpenBucket(path, &fileblob.Options{NoTempDir: true, Metadata: fileblob.MetadataDontWrite})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", u, err)
	}
	return b, nil
}
