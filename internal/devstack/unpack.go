package devstack

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/xi2/xz"
)

// Everything unpacked can be read by the user the services run as, and be executed where the archive says so.

// unpackZip unpacks a zip archive into dir.
func unpackZip(archive, dir string) error {
	r, err := zip.OpenReader(archive)
	if err != nil {
		return fmt.Errorf("open zip: %w", err)
	}
	defer r.Close()
	for _, entry := range r.File {
		if err := unpackZipEntry(entry, dir); err != nil {
			return fmt.Errorf("entry %s: %w", entry.Name, err)
		}
	}
	return nil
}

func unpackZipEntry(entry *zip.File, dir string) error {
	path, err := within(dir, entry.Name)
	if err != nil {
		return err
	}
	if entry.FileInfo().IsDir() {
		return os.MkdirAll(path, 0o755)
	}
	body, err := entry.Open()
	if err != nil {
		return err
	}
	defer body.Close()
	return writeFile(path, body, entry.Mode())
}

// unpackTarGz unpacks a gzipped tar archive into dir.
func unpackTarGz(archive, dir string) error {
	file, err := os.Open(archive)
	if err != nil {
		return fmt.Errorf("open archive: %w", err)
	}
	defer file.Close()
	r, err := gzip.NewReader(file)
	if err != nil {
		return fmt.Errorf("open gzip: %w", err)
	}
	return unpackTar(r, dir)
}

// unpackEmbeddedPostgres unpacks the tar.xz inside the jar that the embedded-postgres project publishes.
func unpackEmbeddedPostgres(archive, dir string) error {
	r, err := zip.OpenReader(archive)
	if err != nil {
		return fmt.Errorf("open jar: %w", err)
	}
	defer r.Close()
	for _, entry := range r.File {
		if !strings.HasSuffix(entry.Name, ".txz") {
			continue
		}
		body, err := entry.Open()
		if err != nil {
			return fmt.Errorf("entry %s: %w", entry.Name, err)
		}
		defer body.Close()
		x, err := xz.NewReader(body, 0)
		if err != nil {
			return fmt.Errorf("entry %s: %w", entry.Name, err)
		}
		return unpackTar(x, dir)
	}
	return errors.New("no .txz in the jar")
}

func unpackTar(r io.Reader, dir string) error {
	archive := tar.NewReader(r)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read tar: %w", err)
		}
		if err := unpackTarEntry(archive, header, dir); err != nil {
			return fmt.Errorf("entry %s: %w", header.Name, err)
		}
	}
}

func unpackTarEntry(r io.Reader, header *tar.Header, dir string) error {
	path, err := within(dir, header.Name)
	if err != nil {
		return err
	}
	switch header.Typeflag {
	case tar.TypeDir:
		return os.MkdirAll(path, 0o755)
	case tar.TypeReg:
		return writeFile(path, r, header.FileInfo().Mode())
	case tar.TypeSymlink:
		if _, err := within(dir, filepath.Join(filepath.Dir(header.Name), header.Linkname)); err != nil || filepath.IsAbs(header.Linkname) {
			return fmt.Errorf("link to %s leaves the archive", header.Linkname)
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		return os.Symlink(header.Linkname, path)
	case tar.TypeLink:
		target, err := within(dir, header.Linkname)
		if err != nil {
			return err
		}
		return os.Link(target, path)
	default:
		return fmt.Errorf("unexpected kind %q", header.Typeflag)
	}
}

// within joins an archive's name to dir and refuses one that leaves it.
func within(dir, name string) (string, error) {
	name = filepath.Clean(filepath.FromSlash(name))
	if !filepath.IsLocal(name) {
		return "", errors.New("name leaves the archive")
	}
	return filepath.Join(dir, name), nil
}

func writeFile(path string, body io.Reader, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	permissions := fs.FileMode(0o644)
	if mode&0o111 != 0 {
		permissions = 0o755
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, permissions)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, body)
	return errors.Join(err, file.Close())
}
