package devstack

import (
	"fmt"
	"io"
	"os"
	"strings"
)

const tailBytes = 4 << 10

// tail returns the end of a log for an error text.
func tail(path string) string { return tailFrom(path, 0) }

// tailFrom returns the end of what was written to a log after offset start.
func tailFrom(path string, start int64) string {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Sprintf("(no log: %v)", err)
	}
	defer file.Close()
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Sprintf("(no log: %v)", err)
	}
	from := max(start, size-tailBytes)
	text, err := io.ReadAll(io.NewSectionReader(file, from, size-from))
	if err != nil {
		return fmt.Sprintf("(no log: %v)", err)
	}
	if from > start { // begin with a whole line
		if _, rest, found := strings.Cut(string(text), "\n"); found {
			text = []byte(rest)
		}
	}
	return strings.TrimSpace(string(text))
}
