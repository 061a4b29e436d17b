package devstack

import (
	"fmt"
	"os"
	"testing"

	"github.com/redis/go-redis/v9/logging"
	"go.uber.org/goleak"
)

// childEnv makes the test binary run a child's part of a test instead of the tests.
const childEnv = "DEVSTACK_TEST_CHILD"

func TestMain(m *testing.M) {
	logging.Disable() // tests that stop Redis would be loud
	if part := os.Getenv(childEnv); part != "" {
		if err := children[part](); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}
