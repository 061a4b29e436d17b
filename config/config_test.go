package config

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func lookup(env map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		v, ok := env[name]
		return v, ok
	}
}

const minimal = `source:
  url: ${DATABASE_URL}
  tables: [public.orders]
views: [views/*.yaml]
`

func TestParseFillsDefaults(t *testing.T) {
	c, err := Parse("dir/lanternist.yaml", []byte(minimal), lookup(map[string]string{"DATABASE_URL": "postgres://u:secret@h/db"}))
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Source.URL.Reveal(); got != "postgres://u:secret@h/db" {
		t.Errorf("url = %q", got)
	}
	if c.Source.Slot != "lanternist" || c.Journal.Dir != "data/journal" || c.HTTP.Listen != "127.0.0.1:8080" ||
		c.Journal.Retention.Age.D() != 7*24*time.Hour || c.Projectors.MaxAttempts != 3 || !*c.Source.Create {
		t.Errorf("defaults are missing: %+v", c)
	}
	if got, want := c.Path("data/journal"), filepath.Join("dir", "data/journal"); got != want {
		t.Errorf("Path = %q, want %q", got, want)
	}
}

func TestEveryProblemAtOnceWithItsLine(t *testing.T) {
	file := `source:
  url: postgres://app:secret@db/shop
  tabels: [public.orders]
  batch_bytes: 3 apples
journal:
  retention: {age: soon, size: 1GiB}
  retention: {age: 1d}
http:
  listen: 0.0.0.0:8080
log: {level: loud}
elasticsearch:
  url: ${ES_URL}
redis: {}
views: []
`
	_, err := Parse("lanternist.yaml", []byte(file), lookup(nil))
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		`lanternist.yaml:2: source.url holds a secret in clear text`,
		`lanternist.yaml:3: unknown setting "source.tabels"; did you mean "tables"?`,
		`lanternist.yaml:4: "3 apples" is not a size`,
		`lanternist.yaml:6: "soon" is not a duration`,
		`lanternist.yaml:7: journal.retention is set twice, first in line 6`,
		`lanternist.yaml:9: http.listen: "0.0.0.0:8080" is not loopback`,
		`lanternist.yaml:10: log.level is "loud"; it must be one of debug, info, warn, error`,
		`lanternist.yaml:12: elasticsearch.url: the environment has no ES_URL`,
		`lanternist.yaml:13: redis.url is missing`,
		`lanternist.yaml:14: views is missing`,
		`source.tables is missing`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no problem says %q in:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "secret@") {
		t.Errorf("the message reveals the password:\n%v", err)
	}
}

func TestAlert(t *testing.T) {
	env := lookup(map[string]string{"DATABASE_URL": "postgres://h/db", "HOOK": "https://hooks.example/T0K3N", "KEY": "k3y"})
	c, err := Parse("l.yaml", []byte(minimal+"deadletters: {alert: {url: \"${HOOK}\", secret: \"${KEY}\"}}\n"), env)
	if err != nil {
		t.Fatal(err)
	}
	if a := c.DeadLetters.Alert; a.Depth != 1 || a.Age != 0 || a.Secret.Reveal() != "k3y" {
		t.Errorf("%+v", a)
	}
	masked, err := c.Masked()
	if err != nil || strings.Contains(string(masked), "T0K3N") || strings.Contains(string(masked), "k3y") {
		t.Errorf("%s, %v", masked, err)
	}
	if c, err := Parse("l.yaml", []byte(minimal+"deadletters: {alert: {url: \"${HOOK}\", secret: \"${KEY}\", age: 1h}}\n"), env); err != nil || c.DeadLetters.Alert.Depth != 0 {
		t.Errorf("with age only: %v", err)
	}
	_, err = Parse("l.yaml", []byte(minimal+"deadletters: {alert: {url: \"ftp://x\", secret: key, depth: -1}}\n"), env)
	for _, want := range []string{"url must be http", "secret holds a secret in clear text", "depth is -1"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no problem says %q in: %v", want, err)
		}
	}
	if _, err = Parse("l.yaml", []byte(minimal+"deadletters: {alert: {depth: 3}}\n"), env); err == nil || !strings.Contains(err.Error(), "url is missing") || !strings.Contains(err.Error(), "secret is missing") {
		t.Errorf("got %v", err)
	}
}

func TestSecretFromFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	text := minimal + "http: {listen: \"0.0.0.0:80\", token: \"${file:" + file + "}\"}\n"
	c, err := Parse("l.yaml", []byte(text), lookup(map[string]string{"DATABASE_URL": "postgres://h/db"}))
	if err != nil {
		t.Fatal(err)
	}
	if c.HTTP.Token.Reveal() != "s3cret" {
		t.Errorf("token = %q", c.HTTP.Token.Reveal())
	}
}

func TestSecretsAreNeverPrinted(t *testing.T) {
	for _, text := range []string{"hunter2", "postgres://u:hunter2@h/db", "redis://:hunter2@h", "postgres://h/db?password=hunter2", "host=h password=hunter2"} {
		s := NewSecret(text)
		asJSON, err := json.Marshal(struct{ S Secret }{s})
		if err != nil {
			t.Fatal(err)
		}
		masked, err := (&Config{Source: Source{URL: s}}).Masked()
		if err != nil {
			t.Fatal(err)
		}
		for _, printed := range []string{s.String(), fmt.Sprintf("%v %+v %#v", s, s, s), string(asJSON), string(masked)} {
			if strings.Contains(printed, "hunter2") {
				t.Errorf("%q is revealed by %q", text, printed)
			}
		}
	}
	if got, want := NewSecret("postgres://u:p@h:5432/db?sslmode=require").String(), "postgres://u:****@h:5432/db?sslmode=require"; got != want {
		t.Errorf("masked = %q, want %q", got, want)
	}
}

func TestSizesAndDurationsReadBack(t *testing.T) {
	for _, text := range []string{"512KiB", "8MiB", "50GiB", "1TiB", "7B"} {
		s, err := ParseSize(text)
		if err != nil || s.String() != text {
			t.Errorf("ParseSize(%q) = %v, %v", text, s, err)
		}
	}
	for _, text := range []string{"7d", "500ms", "1h30m0s"} {
		d, err := ParseDuration(text)
		if err != nil || d.String() != text {
			t.Errorf("ParseDuration(%q) = %v, %v", text, d, err)
		}
	}
	for _, text := range []string{"", "d", "-1s", "7 days", "99999999d"} {
		if d, err := ParseDuration(text); err == nil {
			t.Errorf("ParseDuration(%q) = %v, want an error", text, d)
		}
	}
	for _, text := range []string{"", "MiB", "-1B", "9999999TiB", "1.5GiB"} {
		if s, err := ParseSize(text); err == nil {
			t.Errorf("ParseSize(%q) = %v, want an error", text, s)
		}
	}
}

func TestViewFiles(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b.yaml", "a.yaml"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := &Config{Dir: dir, File: "lanternist.yaml", Views: Views{Files: []string{"*.yaml", "a.yaml"}}}
	files, err := c.ViewFiles()
	if err != nil || len(files) != 2 || filepath.Base(files[0]) != "a.yaml" {
		t.Errorf("ViewFiles = %v, %v", files, err)
	}
	c.Views.Files = append(c.Views.Files, "missing/*.yaml")
	if _, err := c.ViewFiles(); err == nil || !strings.Contains(err.Error(), "missing/*.yaml") {
		t.Errorf("err = %v", err)
	}
}

func TestViewsHaveTwoForms(t *testing.T) {
	env := lookup(map[string]string{"DATABASE_URL": "postgres://h/db", "DIR": "shop"})
	rest := strings.TrimSuffix(minimal, "views: [views/*.yaml]\n")
	for text, want := range map[string]struct {
		files string
		auto  bool
	}{
		"views: [views/*.yaml, '${DIR}/*.yaml']":                       {"[views/*.yaml shop/*.yaml]", true},
		"views: {files: ['${DIR}/*.yaml']}":                            {"[shop/*.yaml]", true},
		"views:\n  files:\n  - views/*.yaml\n  auto_rebuild: false\n":  {"[views/*.yaml]", false},
		"views: {auto_rebuild: true, files: [a.yaml, b.yaml, c.yaml]}": {"[a.yaml b.yaml c.yaml]", true},
	} {
		c, err := Parse("l.yaml", []byte(rest+text), env)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if fmt.Sprint(c.Views.Files) != want.files || *c.Views.AutoRebuild != want.auto {
			t.Errorf("%s: %v, %v", text, c.Views.Files, *c.Views.AutoRebuild)
		}
		masked, err := c.Masked()
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse("l.yaml", masked, env)
		if err != nil || fmt.Sprint(again.Views.Files) != want.files || *again.Views.AutoRebuild != want.auto {
			t.Errorf("%s: printed as\n%s\n%v", text, masked, err)
		}
	}
	for text, want := range map[string]string{
		"views: views/*.yaml":          `l.yaml:4: views must be a list of files, [views/*.yaml], or a mapping`,
		"views:":                       `l.yaml:4: views is missing: the files that declare views: a list of files`,
		"views: {auto_rebuild: false}": `l.yaml:4: views is missing`,
		"views:\n  file: [a.yaml]":     `l.yaml:5: unknown setting "views.file"; did you mean "files"?`,
		"views:\n  files: [a.yaml]\n  auto_rebuild: maybe": `l.yaml:6: cannot unmarshal`,
		"views:\n  files: [a.yaml]\n  files: [b.yaml]":     `l.yaml:6: views.files is set twice, first in line 5`,
		"views:\n- a.yaml\n- {b: c}":                       `l.yaml:6: cannot unmarshal`,
		"views: [\"${NOWHERE}\"]":                          `l.yaml:4: views[0]: the environment has no NOWHERE`,
		"views: {files: [a.yaml, \"${NOWHERE}\"]}":         `l.yaml:4: views.files[1]: the environment has no NOWHERE`,
	} {
		_, err := Parse("l.yaml", []byte(rest+text), env)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: no problem says %q in:\n%v", text, want, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(minimal))
	f.Add([]byte("source: [1, {a: b}]\nviews: {x: y}\n"))
	f.Fuzz(func(_ *testing.T, data []byte) {
		_, _ = Parse("f.yaml", data, lookup(nil)) // must not panic
	})
}
