package devstack

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// errChecksum says that a file is not what it must be.
var errChecksum = errors.New("checksum mismatch")

// cache keeps downloaded archives and what was unpacked from them, for all stacks of this user.
type cache struct {
	dir      string
	client   *http.Client
	progress func(line string)
}

// artifact is an archive that can be fetched.
type artifact struct {
	file   string // its name in the cache
	sha256 string // pinned, hex; "" where fetch verifies against a published checksum
	// fetch writes the archive to a file that does not exist yet.
	fetch func(ctx context.Context, path string) error
}

// openCache uses the user's cache folder, or a folder in /var/tmp where the services could not read that.
func openCache(progress func(string)) (*cache, error) {
	parent, err := os.UserCacheDir()
	if err != nil {
		parent = os.TempDir()
	}
	dir, err := ownFolder(parent, "lanternist-cache-"+strconv.Itoa(os.Geteuid()))
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		ResponseHeaderTimeout: 30 * time.Second,
		DisableKeepAlives:     true,
	}}
	return &cache{dir: dir, client: client, progress: progress}, nil
}

// unpacked returns the folder with the contents of a, fetching and unpacking it if that was not done before.
// Processes that want the same artifact wait for one of them.
func (c *cache) unpacked(ctx context.Context, a artifact, unpack func(archive, dir string) error) (string, error) {
	l, err := lock(filepath.Join(c.dir, a.file+".lock"))
	if err != nil {
		return "", err
	}
	defer l.unlock()
	dir := filepath.Join(c.dir, a.file+".unpacked")
	if _, err := os.Stat(dir); err == nil { // it gets this name when it is complete
		return dir, nil
	}
	archive, err := c.archive(ctx, a)
	if err != nil {
		return "", err
	}
	partial := dir + ".partial"
	if err := os.RemoveAll(partial); err != nil {
		return "", fmt.Errorf("remove unfinished folder: %w", err)
	}
	if err := os.Mkdir(partial, 0o755); err != nil {
		return "", fmt.Errorf("make folder to unpack to: %w", err)
	}
	c.progress("unpacking " + a.file)
	if err := unpack(archive, partial); err != nil {
		return "", fmt.Errorf("unpack %s: %w", a.file, err)
	}
	if err := os.Rename(partial, dir); err != nil {
		return "", fmt.Errorf("name unpacked folder: %w", err)
	}
	return dir, nil
}

// archive returns a verified file. A cached file with another checksum is refused and fetched again.
func (c *cache) archive(ctx context.Context, a artifact) (string, error) {
	path := filepath.Join(c.dir, a.file)
	err := c.verify(path, a)
	if err == nil {
		return path, nil
	}
	if errors.Is(err, errChecksum) {
		c.progress(fmt.Sprintf("refused cached file: %v", err))
	} else if !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	partial := path + ".partial"
	if err := os.RemoveAll(partial); err != nil {
		return "", fmt.Errorf("remove unfinished download: %w", err)
	}
	if err := a.fetch(ctx, partial); err != nil {
		return "", errors.Join(fmt.Errorf("fetch %s: %w", a.file, err), os.RemoveAll(partial))
	}
	sum, err := fileSHA256(partial)
	if err != nil {
		return "", err
	}
	if a.sha256 != "" && sum != a.sha256 {
		return "", errors.Join(fmt.Errorf("fetch %s: %w: sha256 is %s, must be %s", a.file, errChecksum, sum, a.sha256), os.Remove(partial))
	}
	if err := os.WriteFile(path+".sha256", []byte(sum+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("record checksum: %w", err)
	}
	if err := os.Rename(partial, path); err != nil {
		return "", fmt.Errorf("keep download: %w", err)
	}
	return path, nil
}

// verify compares a cached file with its pinned, else its recorded checksum. A file without a recorded
// checksum is one that does not exist.
func (c *cache) verify(path string, a artifact) error {
	want := a.sha256
	if want == "" {
		recorded, err := os.ReadFile(path + ".sha256")
		if err != nil {
			return fmt.Errorf("read recorded checksum: %w", err)
		}
		want = strings.TrimSpace(string(recorded))
	}
	sum, err := fileSHA256(path)
	if err != nil {
		return err
	}
	if sum != want {
		return fmt.Errorf("%s: %w: sha256 is %s, must be %s", path, errChecksum, sum, want)
	}
	return nil
}

func fileSHA256(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("open download: %w", err)
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return "", fmt.Errorf("read download: %w", err)
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}
