package archive

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/lanternist/lanternist/journal"
)

// Prefix is where the files of all journals are in a blob store.
const Prefix = "journal/"

// suffix ends a file's name.
const suffix = ".lnja"

// folder is where the files of a journal are.
func folder(id journal.ID) string { return Prefix + id.String() + "/" }

// nameOf is the name of the file that holds a range of batches. Names sort as sequences do.
func nameOf(id journal.ID, first, last uint64) string {
	return fmt.Sprintf("%s%016x-%016x%s", folder(id), first, last, suffix)
}

// parseName reads the range from the name of a file; false when it is not one of a journal's files.
func parseName(id journal.ID, name string) (first, last uint64, ok bool) {
	base, found := strings.CutPrefix(name, folder(id))
	if !found {
		return 0, 0, false
	}
	if base, found = strings.CutSuffix(base, suffix); !found || len(base) != 33 || base[16] != '-' {
		return 0, 0, false
	}
	first, err := strconv.ParseUint(base[:16], 16, 64)
	if err != nil {
		return 0, 0, false
	}
	last, err = strconv.ParseUint(base[17:], 16, 64)
	if err != nil || first == 0 || last < first || nameOf(id, first, last) != name {
		return 0, 0, false
	}
	return first, last, true
}
