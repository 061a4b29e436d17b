package views

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrEvaluate is wrapped by the error of Compose when a CEL expression failed on this document, for example
// because it compares null with a number. The same rows will fail again: it is permanent for the document.
var ErrEvaluate = errors.New("expression failed")

// ErrTooLarge is wrapped by the error of Compose when a document, or the rows it is made of, is larger than the
// composer's limit. It is permanent for the document.
var ErrTooLarge = errors.New("document too large")

// Problem is one mistake in a definition.
type Problem struct {
	File string
	Line int
	Text string
}

// Error is "file:line: text".
func (p Problem) Error() string { return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Text) }

// Problems are all mistakes found, sorted by file and line. It is the error type of Parse and Compile.
type Problems []Problem

// Error is one problem per line.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = problem.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives each problem to errors.Is and errors.As.
func (p Problems) Unwrap() []error {
	list := make([]error, len(p))
	for i, problem := range p {
		list[i] = problem
	}
	return list
}

// problemList collects problems while a definition is read or compiled.
type problemList struct {
	found Problems
}

func (l *problemList) addf(file string, line int, format string, args ...any) {
	l.found = append(l.found, Problem{File: file, Line: line, Text: fmt.Sprintf(format, args...)})
}

// err is nil when nothing was found, else all problems in order, each once.
func (l *problemList) err() error {
	if len(l.found) == 0 {
		return nil
	}
	slices.SortStableFunc(l.found, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	return slices.Compact(l.found)
}
