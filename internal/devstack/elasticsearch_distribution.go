package devstack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

const (
	elasticsearchVersion = "8.19.7"
	// testArtifact is the distribution that Elasticsearch publishes for integration tests: the server
	// without most modules and without a JDK.
	testArtifact       = "org.elasticsearch.distribution.integ-test-zip:elasticsearch:" + elasticsearchVersion + ":zip"
	testArtifactSHA256 = "cb7f86fb6e68e85ef6f531ae5c68458ecfe42371150403b22b2ed21381581cbb"
	elasticDownloads   = "https://artifacts.elastic.co/downloads/elasticsearch"
)

// distribution is an unpacked Elasticsearch.
type distribution struct {
	home string
	java string // home of the Java to run it with; "" = the bundled one
}

// findDistribution returns the Maven artifact where Maven and a Java are at hand, else Elastic's own
// release archive.
func findDistribution(ctx context.Context, h *host) (distribution, error) {
	c, err := openCache(h.progress)
	if err != nil {
		return distribution{}, err
	}
	d, mavenErr := mavenDistribution(ctx, c, h)
	if mavenErr == nil {
		return d, nil
	}
	if ctx.Err() != nil {
		return distribution{}, mavenErr
	}
	d, elasticErr := elasticDistribution(ctx, c, elasticDownloads)
	if elasticErr == nil {
		return d, nil
	}
	return distribution{}, fmt.Errorf("%w: %w", ErrUnavailable, errors.Join(
		fmt.Errorf("from Maven: %w", mavenErr), fmt.Errorf("from Elastic: %w", elasticErr)))
}

func mavenDistribution(ctx context.Context, c *cache, h *host) (distribution, error) {
	java, err := javaHome(ctx, h.account)
	if err != nil {
		return distribution{}, err
	}
	a := artifact{
		file:   "elasticsearch-" + elasticsearchVersion + "-integ-test.zip",
		sha256: testArtifactSHA256,
		fetch:  func(ctx context.Context, path string) error { return mavenCopy(ctx, h, path) },
	}
	dir, err := c.unpacked(ctx, a, unpackZip)
	if err != nil {
		return distribution{}, err
	}
	return distribution{home: elasticsearchHome(dir), java: java}, nil
}

// mavenCopy has Maven, with the user's mirrors and proxies, copy the test artifact to path.
func mavenCopy(ctx context.Context, h *host, path string) error {
	maven, err := exec.LookPath("mvn")
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), "maven-*")
	if err != nil {
		return fmt.Errorf("make folder for Maven: %w", err)
	}
	defer os.RemoveAll(dir)
	h.progress("copying Elasticsearch " + elasticsearchVersion + " with Maven (93 MiB, once)")
	cmd := exec.Command(maven, "-B", "-q", "dependency:copy", "-Dartifact="+testArtifact, "-DoutputDirectory="+dir)
	cmd.Dir = dir
	if err := h.run(ctx, cmd); err != nil {
		return fmt.Errorf("copy with Maven: %w", err)
	}
	return os.Rename(filepath.Join(dir, "elasticsearch-"+elasticsearchVersion+".zip"), path)
}

// elasticDistribution downloads the release archive, which bundles a JDK.
func elasticDistribution(ctx context.Context, c *cache, base string) (distribution, error) {
	file, err := elasticArchive(runtime.GOOS, runtime.GOARCH)
	if err != nil {
		return distribution{}, err
	}
	url := base + "/" + file
	dir, err := c.unpacked(ctx, artifact{file: file, fetch: c.download(url, url+".sha512")}, unpackTarGz)
	if err != nil {
		return distribution{}, err
	}
	return distribution{home: elasticsearchHome(dir)}, nil
}

// elasticArchive is Elastic's name for the release archive of a platform.
func elasticArchive(goos, goarch string) (string, error) {
	arch, known := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[goarch]
	if !known || goos != "linux" && goos != "darwin" {
		return "", fmt.Errorf("no release archive for %s/%s", goos, goarch)
	}
	return "elasticsearch-" + elasticsearchVersion + "-" + goos + "-" + arch + ".tar.gz", nil
}

func elasticsearchHome(unpacked string) string {
	return filepath.Join(unpacked, "elasticsearch-"+elasticsearchVersion)
}

// has reports whether the distribution contains a module, and so knows its settings.
func (d distribution) has(module string) bool {
	_, err := os.Stat(filepath.Join(d.home, "modules", module))
	return err == nil
}
