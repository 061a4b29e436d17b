package devstack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
)

// oldestJava runs Elasticsearch 8.
const oldestJava = 17

// javaHome returns the home of a Java that runs Elasticsearch, from ES_JAVA_HOME, JAVA_HOME or the PATH.
func javaHome(ctx context.Context, acc *account) (string, error) {
	var reasons []error
	for _, candidate := range javaCandidates(ctx) {
		major, err := javaMajor(ctx, candidate)
		switch {
		case err != nil:
			reasons = append(reasons, fmt.Errorf("java in %s: %w", candidate, err))
		case major < oldestJava:
			reasons = append(reasons, fmt.Errorf("java in %s is version %d, %d or later is needed", candidate, major, oldestJava))
		case !acc.canReach(candidate):
			reasons = append(reasons, fmt.Errorf("java in %s cannot be reached by user %s", candidate, acc.name))
		default:
			return candidate, nil
		}
	}
	if len(reasons) == 0 {
		return "", errors.New("no java in ES_JAVA_HOME, JAVA_HOME or the PATH")
	}
	return "", errors.Join(reasons...)
}

func javaCandidates(ctx context.Context) []string {
	var homes []string
	for _, variable := range []string{"ES_JAVA_HOME", "JAVA_HOME"} {
		if home := os.Getenv(variable); home != "" {
			homes = append(homes, home)
		}
	}
	if runtime.GOOS == "darwin" { // java on the PATH is a stub there
		if out, err := exec.CommandContext(ctx, "/usr/libexec/java_home").Output(); err == nil {
			homes = append(homes, strings.TrimSpace(string(out)))
		}
	}
	if path, err := exec.LookPath("java"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			homes = append(homes, filepath.Dir(filepath.Dir(path)))
		}
	}
	return homes
}

var javaVersionLine = regexp.MustCompile(`version "(\d+)`)

// javaMajor asks a Java for its version. Java 8 and older say 1.
func javaMajor(ctx context.Context, home string) (int, error) {
	out, err := exec.CommandContext(ctx, filepath.Join(home, "bin", "java"), "-version").CombinedOutput()
	if err != nil {
		return 0, err
	}
	match := javaVersionLine.FindSubmatch(out)
	if match == nil {
		return 0, fmt.Errorf("no version in %q", out)
	}
	return strconv.Atoi(string(match[1]))
}
