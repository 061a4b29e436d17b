package devstack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// serviceWithin bounds how long a test waits for a service, a first download included.
const serviceWithin = 9 * time.Minute

// needServices skips a test that needs real services when they are not wanted.
func needServices(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs real services; run without -short")
	}
}

// had skips or fails the test on an error of getting a service.
func had(t testing.TB, service string, err error) {
	t.Helper()
	switch {
	case err == nil:
	case errors.Is(err, ErrUnavailable) && os.Getenv("LANTERNIST_REQUIRE_SERVICES") != "1":
		t.Skipf("no %s: %s", service, strings.ReplaceAll(err.Error(), "\n", "; "))
	default:
		t.Fatalf("no %s: %v", service, err)
	}
}

// sharedService returns the URL of a service of the shared stack, or the given one.
func sharedService(t testing.TB, req request, variable string) string {
	t.Helper()
	needServices(t)
	if url := givenURL("", variable); url != "" {
		return strings.TrimRight(url, "/")
	}
	ctx, cancel := context.WithTimeout(context.Background(), serviceWithin)
	defer cancel()
	url, err := sharedURL(ctx, req, report)
	had(t, req.Service, err)
	return url
}

// reported are the lines of progress that this process has printed.
var reported sync.Map

// report prints progress at once, which a test's log would not. Of tests that wait for the same thing, one
// prints it.
func report(line string) {
	if _, again := reported.LoadOrStore(line, true); !again {
		fmt.Fprintln(os.Stderr, "development stack:", line)
	}
}

// PrivateStack starts a stack for one test, which may stop and kill its services, and closes it when the
// test ends.
func PrivateStack(t testing.TB, opts Options) *Stack {
	t.Helper()
	needServices(t)
	if opts.Progress == nil {
		opts.Progress = writerFunc(func(p []byte) (int, error) {
			report(strings.TrimSuffix(string(p), "\n"))
			return len(p), nil
		})
	}
	ctx, cancel := context.WithTimeout(context.Background(), serviceWithin)
	defer cancel()
	s, err := Start(ctx, opts)
	had(t, "private stack", err)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close private stack: %v", err)
		}
	})
	return s
}
