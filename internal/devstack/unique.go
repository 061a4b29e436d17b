package devstack

import (
	"crypto/rand"
	"strings"
)

// uniqueName is a name that no other test has: lower case, begins with a letter, 20 characters.
func uniqueName() string { return "test" + strings.ToLower(rand.Text()[:16]) }
