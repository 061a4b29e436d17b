//go:build sabotage

package sabotage

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// Enabled says that safeguards can be off.
const Enabled = true

var off = parse(os.Getenv(Variable))

// parse reads the variable. A name that no safeguard has would prove nothing.
func parse(text string) map[Safeguard]bool {
	names := map[Safeguard]bool{}
	for name := range strings.SplitSeq(text, ",") {
		if name == "" {
			continue
		}
		if !slices.Contains(All, Safeguard(name)) {
			panic(fmt.Sprintf("%s: there is no safeguard %q", Variable, name))
		}
		names[Safeguard(name)] = true
	}
	return names
}

// Off says whether a safeguard is off.
func Off(s Safeguard) bool { return off[s] }
