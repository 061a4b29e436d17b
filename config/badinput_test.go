package config

import (
	"strings"
	"testing"
)

// TestBadInputIsNamed: whatever a file holds that is no configuration, it is said in words that name the place, all problems at
// once, and nothing of it is taken silently.
func TestBadInputIsNamed(t *testing.T) {
	env := lookup(map[string]string{"DATABASE_URL": "postgres://h/db"})
	missing := []string{"source.url is missing", "source.tables is missing", "views is missing"}
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"empty", "", []string{"l.yaml: the file is empty; lanternist init writes one"}},
		{"a comment", "# nothing\n", []string{"l.yaml: the file is empty"}},
		{"an empty document", "---\n", missing},
		{"null", "null", missing},
		{"a list", "[]", []string{"l.yaml:1: want settings by their names"}},
		{"a text", "text", []string{"l.yaml:1: want settings by their names"}},
		{"a second document", minimal + "---\nsource: {}\n", []string{"a second document begins here"}},
		{"a second document that is none", minimal + "---\n{", []string{"a second document begins here"}},
		{"UTF-16", "\xff\xfes\x00", []string{"l.yaml:1: the file is not UTF-8: byte 0 is 0xff"}},
		{"Latin-1", minimal + "redis: {prefix: \xe9}\n", []string{"l.yaml:5: the file is not UTF-8", "0xe9"}},
		{"an anchor that is nowhere", "source: *nowhere\n", []string{"unknown anchor 'nowhere'"}},
		{"an alias in place of a section", "source: &s {url: x}\nredis: *s\n", []string{"source.tables is missing", "views is missing"}},
		{"set twice", minimal + "source: {url: y}\n", []string{"l.yaml:5: source is set twice, first in line 1"}},
		{"cut off", "{", []string{"l.yaml:1: did not find expected node content"}},
		{"a number for a name", minimal + "1: 2\n", []string{`l.yaml:5: unknown setting "1"`}},
		{"a list for a name", minimal + "? [a]\n: b\n", []string{"l.yaml:5: "}},
		{"a merge", minimal + "<<: {source: {url: z}}\n", []string{`l.yaml:5: unknown setting "<<"`}},
		{"a scalar for a section", minimal + "http: 7\n", []string{"l.yaml:5: cannot unmarshal"}},
		{"a list for a section", minimal + "redis: [a]\n", []string{"l.yaml:5: cannot unmarshal"}},
		{"a port without a host", minimal + "http: {listen: 7}\n", []string{`l.yaml:5: http.listen: "7" is not host:port`}},
		{"an endless number", minimal + "projectors: {max_attempts: 1e400}\n", []string{"l.yaml:5: cannot unmarshal"}},
		{"a negative number", minimal + "projectors: {max_attempts: -1}\n", []string{"l.yaml:5: projectors.max_attempts is -1; it must be at least 1"}},
		{"a mirror without memory", minimal + "mirror: {cache: 16MiB}\n", []string{"l.yaml:5: mirror.cache is 16MiB; it must be at least 32MiB"}},
		{"two wrong values", minimal + "journal: {retention: {age: tomorrow, size: many}}\n",
			[]string{`l.yaml:5: "tomorrow" is not a duration`, `l.yaml:5: "many" is not a size`}},
		{"as deep as can be", strings.Repeat("[", 20000), []string{"exceeded max depth"}},
		{"a reference to nothing", "source: {url: '${}'}\n", []string{"l.yaml:1: source.url: ${} names no variable"}},
		{"a reference to what is not there", "source: {url: '${NOWHERE}'}\n", []string{"the environment has no NOWHERE"}},
		{"a file that is not there", "source: {url: '${file:/nowhere/x}'}\n", []string{"l.yaml:1: source.url: open /nowhere/x"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse("l.yaml", []byte(c.text), env)
			if err == nil {
				t.Fatal("it was taken for a configuration")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("no problem says %q in:\n%v", want, err)
				}
			}
		})
	}
}

// TestAliasesDoNotGrow: a file of a few hundred bytes that stands for a billion values costs no more than its bytes.
func TestAliasesDoNotGrow(t *testing.T) {
	var text strings.Builder
	text.WriteString("a: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := range 9 {
		n := string(rune('0' + i))
		text.WriteString("b" + n + ": &a" + string(rune('1'+i)) + " [" + strings.TrimSuffix(strings.Repeat("*a"+n+", ", 10), ", ") + "]\n")
	}
	if _, err := Parse("l.yaml", []byte(text.String()), lookup(nil)); err == nil || !strings.Contains(err.Error(), `unknown setting "a"`) {
		t.Fatal(err)
	}
}
