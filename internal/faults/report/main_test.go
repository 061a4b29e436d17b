package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	dir := t.TempDir()
	keep := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	keep("b.json", `{"ID":"b","Area":"Source","Fault":"a | b","Promise":"p","Answer":"nothing: n","Package":"e2e","Test":"TestFaultB","Outcome":"held","Recovery":1234567890,"Letters":0,"Note":"n"}`)
	keep("a.json", `{"ID":"a","Area":"Journal","Fault":"f","Promise":"p","Answer":"nothing: n","Package":"e2e","Test":"TestFaultA","Outcome":"held"}`)
	var page strings.Builder
	if err := run([]string{dir}, &page); err != nil {
		t.Fatal(err)
	}
	text := page.String()
	for _, want := range []string{
		"2 faults.", "## Source\n", "| a \\| b | p | nothing: n | `e2e` TestFaultB | held; recovered in 1.2s; 0 parked; n |",
		"| f | p | nothing: n | `e2e` TestFaultA | held |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in:\n%s", want, text)
		}
	}
	if strings.Index(text, "## Source") > strings.Index(text, "## Journal") {
		t.Error("the areas are not in their order")
	}
	keep("c.json", `{"ID":"c","Area":"Source","Outcome":"broken"}`)
	if err := run([]string{dir}, &page); err == nil || !strings.Contains(err.Error(), "c") {
		t.Errorf("a broken promise: %v", err)
	}
	if err := run(nil, &page); err == nil {
		t.Error("no folder is no error")
	}
}
