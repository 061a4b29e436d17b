package devstack

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// publisher serves files and counts how often each was asked for.
type publisher struct {
	*httptest.Server
	files map[string]string
	asked map[string]int
}

func newPublisher(t *testing.T, files map[string]string) *publisher {
	p := &publisher{files: files, asked: map[string]int{}}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.asked[r.URL.Path]++
		text, found := p.files[r.URL.Path]
		if !found {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, text)
	}))
	t.Cleanup(p.Close)
	return p
}

func newTestCache(t *testing.T) (c *cache, progress *[]string) {
	progress = &[]string{}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	return &cache{dir: t.TempDir(), client: client, progress: func(line string) { *progress = append(*progress, line) }}, progress
}

func TestCachedDownloadIsVerifiedEachTime(t *testing.T) {
	const body = "what the archive holds"
	p := newPublisher(t, map[string]string{
		"/a.zip":        body,
		"/a.zip.sha256": fmt.Sprintf("%x  a.zip\n", sha256.Sum256([]byte(body))),
	})
	c, progress := newTestCache(t)
	a := artifact{file: "a.zip", fetch: c.download(p.URL+"/a.zip", p.URL+"/a.zip.sha256")}
	get := func() {
		t.Helper()
		path, err := c.archive(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != body {
			t.Fatalf("got %q, error %v", got, err)
		}
	}
	get()
	get()
	if n := p.asked["/a.zip"]; n != 1 {
		t.Errorf("downloaded %d times for two uses", n)
	}
	if err := os.WriteFile(filepath.Join(c.dir, "a.zip"), []byte("what somebody else put there"), 0o600); err != nil {
		t.Fatal(err)
	}
	get()
	if n := p.asked["/a.zip"]; n != 2 {
		t.Errorf("downloaded %d times; a changed file must be fetched again", n)
	}
	if log := strings.Join(*progress, "\n"); !strings.Contains(log, "refused cached file") || !strings.Contains(log, "100%") {
		t.Errorf("progress:\n%s", log)
	}
	// Without the publisher a changed file is an error, never used.
	if err := os.WriteFile(filepath.Join(c.dir, "a.zip"), []byte("again"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.files = nil
	if path, err := c.archive(t.Context(), a); err == nil {
		t.Errorf("a changed file was used: %s", path)
	}
}

func TestDownloadThatIsNotWhatItShouldBeIsRefused(t *testing.T) {
	const body = "replaced on the way"
	good := fmt.Sprintf("%x", sha256.Sum256([]byte(body)))
	bad := strings.Repeat("0", 64)
	for name, scene := range map[string]struct{ published, pinned string }{
		"published checksum": {bad, ""},
		"pinned checksum":    {good, bad},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPublisher(t, map[string]string{"/a": body, "/a.sha256": scene.published})
			c, _ := newTestCache(t)
			a := artifact{file: "a", sha256: scene.pinned, fetch: c.download(p.URL+"/a", p.URL+"/a.sha256")}
			_, err := c.unpacked(t.Context(), a, func(string, string) error {
				t.Error("it was unpacked")
				return nil
			})
			if !errors.Is(err, errChecksum) {
				t.Errorf("error is %v", err)
			}
			if _, err := os.Stat(filepath.Join(c.dir, "a")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("it is in the cache: %v", err)
			}
		})
	}
}

func TestInterruptedUnpackingIsDoneAgain(t *testing.T) {
	c, _ := newTestCache(t)
	a := artifact{file: "a", fetch: func(_ context.Context, path string) error { return os.WriteFile(path, []byte("x"), 0o600) }}
	broken := errors.New("disk full")
	_, err := c.unpacked(t.Context(), a, func(_, dir string) error {
		return errors.Join(os.WriteFile(filepath.Join(dir, "half"), nil, 0o600), broken)
	})
	if !errors.Is(err, broken) {
		t.Fatalf("error is %v", err)
	}
	dir, err := c.unpacked(t.Context(), a, func(_, dir string) error {
		return os.WriteFile(filepath.Join(dir, "whole"), nil, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) != 1 || filepath.Base(left[0]) != "whole" {
		t.Errorf("unpacked: %v, error %v", left, err)
	}
}

// The release archive bundles a JDK, so the distribution names no Java.
func TestElasticReleaseArchive(t *testing.T) {
	file, err := elasticArchive(runtime.GOOS, runtime.GOARCH)
	if err != nil {
		t.Skip(err)
	}
	root := "elasticsearch-" + elasticsearchVersion
	archive := tarGz(t,
		tar.Header{Name: root + "/", Typeflag: tar.TypeDir, Mode: 0o700},
		tar.Header{Name: root + "/bin/elasticsearch", Typeflag: tar.TypeReg, Mode: 0o700},
		tar.Header{Name: root + "/config/elasticsearch.yml", Typeflag: tar.TypeReg, Mode: 0o660},
		tar.Header{Name: root + "/jdk/bin/java", Typeflag: tar.TypeSymlink, Linkname: "../../bin/elasticsearch"},
		tar.Header{Name: root + "/modules/ingest-geoip/", Typeflag: tar.TypeDir, Mode: 0o700},
	)
	p := newPublisher(t, map[string]string{
		"/" + file:             archive,
		"/" + file + ".sha512": fmt.Sprintf("%x  %s\n", sha512.Sum512([]byte(archive)), file),
	})
	c, _ := newTestCache(t)
	d, err := elasticDistribution(t.Context(), c, p.URL)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{"bin/elasticsearch": 0o755, "config/elasticsearch.yml": 0o644, "jdk/bin/java": 0o755} {
		info, err := os.Stat(filepath.Join(d.home, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, error %v", name, info, err)
		}
	}
	command := strings.Join(node{distribution: d, dir: "/d"}.command([]int{1, 2}).Args, " ")
	if d.java != "" || !strings.Contains(command, "geoip") || strings.Contains(command, "ml.enabled") {
		t.Errorf("java %q, command %s", d.java, command)
	}
	// The second use needs no network.
	p.Close()
	if _, err := elasticDistribution(t.Context(), c, p.URL); err != nil {
		t.Errorf("from the cache: %v", err)
	}
}

func TestElasticArchiveNames(t *testing.T) {
	for platform, want := range map[string]string{
		"linux/amd64":   "elasticsearch-8.19.7-linux-x86_64.tar.gz",
		"linux/arm64":   "elasticsearch-8.19.7-linux-aarch64.tar.gz",
		"darwin/arm64":  "elasticsearch-8.19.7-darwin-aarch64.tar.gz",
		"linux/riscv64": "",
		"plan9/amd64":   "",
	} {
		goos, goarch, _ := strings.Cut(platform, "/")
		if got, err := elasticArchive(goos, goarch); got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, error %v", platform, got, err)
		}
	}
}

func TestEmbeddedPostgresNames(t *testing.T) {
	for _, c := range []struct {
		goos, goarch string
		alpine       bool
		want         string
	}{
		{"linux", "amd64", false, "linux-amd64"},
		{"linux", "arm64", false, "linux-arm64v8"},
		{"linux", "arm64", true, "linux-arm64v8-alpine"},
		{"linux", "amd64", true, "linux-amd64-alpine"},
		{"darwin", "arm64", false, "darwin-arm64v8"},
	} {
		if got := embeddedPlatform(c.goos, c.goarch, c.alpine); got != c.want {
			t.Errorf("%v: %s", c, got)
		}
	}
}

func TestArchivesCannotWriteElsewhere(t *testing.T) {
	archives := map[string]string{
		"absolute":      tarGz(t, tar.Header{Name: "/etc/evil", Typeflag: tar.TypeReg}),
		"above":         tarGz(t, tar.Header{Name: "a/../../evil", Typeflag: tar.TypeReg}),
		"link out":      tarGz(t, tar.Header{Name: "a", Typeflag: tar.TypeSymlink, Linkname: "../evil"}),
		"absolute link": tarGz(t, tar.Header{Name: "a", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}),
		"device":        tarGz(t, tar.Header{Name: "a", Typeflag: tar.TypeChar}),
	}
	for name, archive := range archives {
		path := filepath.Join(t.TempDir(), "a.tar.gz")
		if err := os.WriteFile(path, []byte(archive), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := unpackTarGz(path, t.TempDir()); err == nil {
			t.Errorf("%s: unpacked", name)
		}
	}
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	if _, err := z.Create("../evil"); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "a.zip")
	if err := os.WriteFile(path, buf.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unpackZip(path, t.TempDir()); err == nil {
		t.Error("zip: unpacked")
	}
}

// tarGz makes an archive of empty entries.
func tarGz(t *testing.T, headers ...tar.Header) string {
	t.Helper()
	var buf bytes.Buffer
	gz := gzip.NewWriter(&buf)
	archive := tar.NewWriter(gz)
	for _, h := range headers {
		if err := archive.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(archive.Close(), gz.Close()); err != nil {
		t.Fatal(err)
	}
	return buf.String()
}

func TestEmbeddedPostgresTellsItsRepository(t *testing.T) {
	url, err := embeddedRepository()
	if err != nil || !strings.HasPrefix(url, "https://") {
		t.Errorf("embeddedRepository = %q, %v", url, err)
	}
}
