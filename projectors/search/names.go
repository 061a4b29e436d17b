package search

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// validIndexName is what Elasticsearch takes for the view's part of a name.
var validIndexName = regexp.MustCompile(`^[a-z0-9_][a-z0-9_.-]*$`)

// viewNames are the names of one view in the cluster.
type viewNames struct {
	alias   string // readers' alias: <prefix><view>
	pattern string // of the generations' indices; also matches those of a view named "<view>-g…"
}

func newViewNames(prefix, view string) viewNames {
	alias := prefix + view
	return viewNames{alias: alias, pattern: alias + "-g*"}
}

// generation is the names of one generation.
func (n viewNames) generation(number int) generationNames {
	index := fmt.Sprintf("%s-g%d", n.alias, number)
	return generationNames{index: index, writer: index + "-w"}
}

// owns says whether an index is a generation of the view.
func (n viewNames) owns(index string) bool {
	digits, ok := strings.CutPrefix(index, n.alias+"-g")
	if !ok {
		return false
	}
	_, err := strconv.ParseUint(digits, 10, 31)
	return err == nil
}

// generationNames are the names of one generation.
type generationNames struct {
	index  string
	writer string // alias that writes require, so that they never create an index
}
