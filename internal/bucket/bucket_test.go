package bucket

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestValidate(t *testing.T) {
	for address, want := range map[string]string{
		"file:///var/archive": "", "file://data/archive": "", "s3://bucket?region=eu-west-1": "", "gs://bucket": "", "azblob://container": "",
		"http://x": "no blob store", "s3://": "names no bucket", "file://": "names no folder", "file:///": "names no folder", "data/archive": "no blob store",
		"s3://%zz": "not a URL",
	} {
		err := Validate(address)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", address, err, want)
		}
	}
}

func TestFolder(t *testing.T) {
	dir := t.TempDir()
	for address, path := range map[string]string{
		"file://data/archive":                      filepath.Join(dir, "data", "archive"),
		"file://" + filepath.Join(dir, "absolute"): filepath.Join(dir, "absolute"),
	} {
		b, err := Open(t.Context(), address, dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.WriteAll(t.Context(), "a/b", []byte("text"), nil); err != nil {
			t.Fatal(err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		if text, err := os.ReadFile(filepath.Join(path, "a", "b")); err != nil || string(text) != "text" {
			t.Errorf("%s: %q, %v", address, text, err)
		}
	}
}
