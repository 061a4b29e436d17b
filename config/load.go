package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/lanternist/lanternist/internal/bucket"
	"github.com/lanternist/lanternist/suggest"
)

// Problem is one mistake in the file.
type Problem struct {
	File string `json:"file"`
	Line int    `json:"line,omitempty"` // 0: the file as a whole
	Text string `json:"text"`
}

func (p Problem) Error() string {
	if p.Line == 0 {
		return p.File + ": " + p.Text
	}
	return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Text)
}

// Problems are all the mistakes of a file, in order of line.
type Problems []Problem

func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, one := range p {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Load reads a configuration file and fills in defaults. Its error is a Problems that holds every mistake. When the
// file could be read as YAML the configuration is returned beside the error, as far as it goes, so that a check can
// look for what else is wrong.
func Load(file string) (*Config, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, Problems{{File: file, Text: "no such file; write one with: lanternist init --url \"$DATABASE_URL\""}}
	}
	if err != nil {
		return nil, Problems{{File: file, Text: err.Error()}}
	}
	return Parse(file, data, os.LookupEnv)
}

// Parse reads a configuration. file is its name in messages and the place where relative paths start; env looks
// a variable up. What it returns beside an error is as with Load.
func Parse(file string, data []byte, env func(string) (string, bool)) (*Config, error) {
	p := parser{file: file, env: env, lines: map[string]int{}}
	c := &Config{File: file, Dir: filepath.Dir(file), lines: p.lines}
	root := p.document(data)
	if root == nil {
		return nil, p.problems
	}
	p.walk(root, reflect.TypeFor[Config](), "")
	if err := root.Decode(c); err != nil {
		p.yaml(err)
	}
	c.SetDefaults()
	p.validate(c)
	if len(p.problems) > 0 {
		slices.SortStableFunc(p.problems, func(a, b Problem) int { return a.Line - b.Line })
		return c, p.problems
	}
	return c, nil
}

// document is the file's only document, a mapping; nil when there is no such thing.
func (p *parser) document(data []byte) *yaml.Node {
	if at := invalidUTF8(data); at >= 0 {
		p.add(1+bytes.Count(data[:at], []byte("\n")), "the file is not UTF-8: byte %d is %#02x", at, data[at])
		return nil
	}
	var doc, more yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	switch err := decoder.Decode(&doc); {
	case errors.Is(err, io.EOF):
		p.add(0, "the file is empty; lanternist init writes one to begin with")
		return nil
	case err != nil:
		p.yaml(err)
		return nil
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode && root.Tag != "!!null" {
		p.add(root.Line, "want settings by their names, such as source: and views:, and not a list or a text")
		return nil
	}
	if err := decoder.Decode(&more); !errors.Is(err, io.EOF) {
		p.add(more.Line, "a second document begins here; all settings belong into the first")
		return nil
	}
	return root
}

// invalidUTF8 is the place of the first byte that is not UTF-8, or -1.
func invalidUTF8(data []byte) int {
	for at := 0; at < len(data); {
		r, size := utf8.DecodeRune(data[at:])
		if r == utf8.RuneError && size == 1 {
			return at
		}
		at += size
	}
	return -1
}

type parser struct {
	file     string
	env      func(string) (string, bool)
	lines    map[string]int // dotted path of a key → its line
	problems Problems
}

func (p *parser) add(line int, format string, args ...any) {
	p.problems = append(p.problems, Problem{File: p.file, Line: line, Text: fmt.Sprintf(format, args...)})
}

var yamlLine = regexp.MustCompile(`^(?:yaml: )?line (\d+): (.*)$`)

// yaml turns the decoder's error into problems with their lines.
func (p *parser) yaml(err error) {
	texts := []string{err.Error()}
	var several *yaml.TypeError
	if errors.As(err, &several) {
		texts = several.Errors
	}
	for _, text := range texts {
		line := 0
		if m := yamlLine.FindStringSubmatch(text); m != nil {
			line, _ = strconv.Atoi(m[1]) // the pattern holds digits only
			text = m[2]
		}
		p.add(line, "%s", strings.TrimPrefix(text, "yaml: "))
	}
}

// walk resolves references, notes where every key stands, and finds keys that the type does not have.
func (p *parser) walk(n *yaml.Node, t reflect.Type, path string) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	t = shorthand(n, t)
	switch n.Kind {
	case yaml.ScalarNode:
		p.resolve(n, t, path)
	case yaml.SequenceNode:
		for i, item := range n.Content {
			elem := t
			if t.Kind() == reflect.Slice {
				elem = t.Elem()
			}
			p.walk(item, elem, fmt.Sprintf("%s[%d]", path, i))
		}
	case yaml.MappingNode:
		p.mapping(n, t, path)
	}
}

func (p *parser) mapping(n *yaml.Node, t reflect.Type, path string) {
	if t.Kind() != reflect.Struct && t.Kind() != reflect.Map {
		return // Decode says what is wrong
	}
	fields := fieldsOf(t)
	for i := 0; i+1 < len(n.Content); {
		key, value := n.Content[i], n.Content[i+1]
		at := strings.TrimPrefix(path+"."+key.Value, ".")
		if first, twice := p.lines[at]; twice {
			p.add(key.Line, "%s is set twice, first in line %d", at, first)
			n.Content = slices.Delete(n.Content, i, i+2) // Decode would stop here and hide what else is wrong
			continue
		}
		i += 2
		p.lines[at] = key.Line
		ft, ok := fields[key.Value]
		if t.Kind() == reflect.Map { // of names that the user gives
			ft, ok = t.Elem(), true
		}
		if !ok {
			p.add(key.Line, "unknown setting %q%s", at, didYouMean(key.Value, fields))
			continue
		}
		p.walk(value, ft, at)
	}
}

// fieldsOf are the keys that a mapping may have, by the type that it is read into.
func fieldsOf(t reflect.Type) map[string]reflect.Type {
	fields := map[string]reflect.Type{}
	if t.Kind() != reflect.Struct {
		return fields
	}
	for f := range t.Fields() {
		if name := strings.Split(f.Tag.Get("yaml"), ",")[0]; name != "" && name != "-" {
			fields[name] = f.Type
		}
	}
	return fields
}

func didYouMean(word string, fields map[string]reflect.Type) string {
	names := make([]string, 0, len(fields))
	for name := range fields {
		names = append(names, name)
	}
	slices.Sort(names)
	if near, ok := suggest.Nearest(word, names); ok {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	return "; known here: " + strings.Join(names, ", ")
}

var reference = regexp.MustCompile(`\$\{([^}]*)\}`)

// resolve replaces references in a scalar. A secret that is written out is refused.
func (p *parser) resolve(n *yaml.Node, t reflect.Type, path string) {
	literal := !reference.MatchString(n.Value)
	if literal && t == reflect.TypeFor[Secret]() && holdsSecret(n.Value, path) {
		p.add(n.Line, "%s holds a secret in clear text; put it into the environment and write ${NAME}, or into a file and write ${file:/path}", path)
	}
	n.Value = reference.ReplaceAllStringFunc(n.Value, func(ref string) string {
		name := ref[2 : len(ref)-1]
		if file, ok := strings.CutPrefix(name, "file:"); ok {
			data, err := os.ReadFile(file)
			if err != nil {
				p.add(n.Line, "%s: %v", path, err)
			}
			return strings.TrimRight(string(data), "\r\n")
		}
		if name == "" {
			p.add(n.Line, "%s: ${} names no variable; write ${NAME}, or ${file:/path}", path)
			return ""
		}
		value, ok := p.env(name)
		if !ok {
			p.add(n.Line, "%s: the environment has no %s; set it, for example: export %s=…", path, name, name)
		}
		return value
	})
}

// holdsSecret says whether literal text in a Secret is one: a URL without a password is not.
func holdsSecret(text, path string) bool {
	if !strings.HasSuffix(path, "url") {
		return text != ""
	}
	u, err := url.Parse(text)
	if err != nil {
		return false
	}
	_, has := u.User.Password()
	return has || u.Query().Has("password")
}

// mirrorCacheLeast is what memtables and the rows of a transaction take at least.
const mirrorCacheLeast = 32 << 20

// validate checks what single values cannot tell.
func (p *parser) validate(c *Config) {
	if c.Source.URL.IsZero() {
		p.missing("source.url", "the database to read, for example ${DATABASE_URL}")
	}
	if len(c.Source.Tables) == 0 {
		p.missing("source.tables", "the tables to capture, for example [public.orders] or [public.*]")
	}
	for i, t := range c.Source.Tables {
		if schema, name, ok := strings.Cut(t, "."); !ok || schema == "" || name == "" {
			p.add(p.line("source.tables"), "source.tables[%d]: %q must be schema.table or schema.*; did you mean %q?", i, t, "public."+t)
		}
	}
	if c.Source.BatchBytes < 4<<10 || c.Source.BatchBytes > 64<<20 {
		p.add(p.line("source.batch_bytes"), "source.batch_bytes is %v; it must be between 4KiB and 64MiB", c.Source.BatchBytes)
	}
	p.oneOf("source.schema_change", c.Source.SchemaChange, "evolve", "halt")
	if c.Mirror.Cache < mirrorCacheLeast {
		p.add(p.line("mirror.cache"), "mirror.cache is %v; it must be at least %v", c.Mirror.Cache, Size(mirrorCacheLeast))
	}
	if !c.Journal.URL.IsZero() && p.lines["journal.dir"] != 0 {
		p.add(p.line("journal.dir"), "journal.dir and journal.url exclude each other")
	}
	if c.Elasticsearch != nil && c.Elasticsearch.URL.IsZero() {
		p.missing("elasticsearch.url", "for example http://localhost:9200")
	}
	if c.Redis != nil && c.Redis.URL.IsZero() {
		p.missing("redis.url", "for example redis://localhost:6379")
	}
	if c.Archive != nil {
		p.validateArchive(c.Archive)
	}
	if len(c.Views.Files) == 0 {
		p.missing("views", "the files that declare views: "+viewsForms)
	}
	if c.DeadLetters.Alert != nil {
		p.validateAlert(c.DeadLetters.Alert)
	}
	p.validateHTTP(&c.HTTP)
	p.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	p.oneOf("log.format", c.Log.Format, "text", "json")
	p.validateProjectors(&c.Projectors)
	p.atLeast("snapshot.workers", c.Snapshot.Workers, 1)
	p.atLeast("snapshot.rate", c.Snapshot.Rate, 0)
	p.atLeast("snapshot.range_rows", c.Snapshot.RangeRows, 1)
	p.atLeast("http.max_waiters", c.HTTP.MaxWaiters, 1)
	p.atLeast("journal.replicas", c.Journal.Replicas, 1)
}

func (p *parser) validateArchive(a *Archive) {
	if a.URL.IsZero() {
		p.missing("archive.url", "for example file://data/archive or s3://bucket")
	} else if err := bucket.Validate(a.URL.Reveal()); err != nil {
		p.add(p.line("archive.url"), "archive.url: %v", err)
	}
	if a.FileSize < 1<<20 {
		p.add(p.line("archive.file_size"), "archive.file_size is %v; it must be at least 1MiB", a.FileSize)
	}
	p.atLeast("archive.checkpoints.keep", *a.Checkpoints.Keep, 0)
}

func (p *parser) validateAlert(a *Alert) {
	if a.URL.IsZero() {
		p.missing("deadletters.alert.url", "where the alert is posted to, for example ${LANTERNIST_ALERT_URL}")
	} else if u, err := url.Parse(a.URL.Reveal()); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		p.add(p.line("deadletters.alert.url"), "deadletters.alert.url must be http:// or https:// and a host")
	}
	if a.Secret.IsZero() {
		p.missing("deadletters.alert.secret", "the key that the alert is signed with, for example ${LANTERNIST_ALERT_SECRET}")
	}
	p.atLeast("deadletters.alert.depth", a.Depth, 0)
}

func (p *parser) validateHTTP(h *HTTP) {
	host, _, err := net.SplitHostPort(h.Listen)
	if err != nil {
		p.add(p.line("http.listen"), "http.listen: %q is not host:port, for example 127.0.0.1:8080", h.Listen)
		return
	}
	ip := net.ParseIP(host)
	loopback := host == "localhost" || ip != nil && ip.IsLoopback()
	if !loopback && h.Token.IsZero() {
		p.add(p.line("http.listen"), "http.listen: %q is not loopback, so clients must authenticate; set http.token: ${LANTERNIST_TOKEN}", h.Listen)
	}
	if (h.TLSCert == "") != (h.TLSKey == "") {
		p.add(p.line("http.tls_cert"), "http.tls_cert and http.tls_key belong together")
	}
}

// line is where the key stands, or the nearest key above it that the file has.
func (p *parser) line(path string) int {
	for path != "" {
		if line, ok := p.lines[path]; ok {
			return line
		}
		path = path[:max(strings.LastIndexByte(path, '.'), 0)]
	}
	return 0
}

func (p *parser) missing(path, what string) {
	p.add(p.line(path), "%s is missing: %s", path, what)
}

func (p *parser) oneOf(path, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		p.add(p.line(path), "%s is %q; it must be one of %s", path, value, strings.Join(allowed, ", "))
	}
}

func (p *parser) atLeast(path string, value, least int) {
	if value < least {
		p.add(p.line(path), "%s is %d; it must be at least %d", path, value, least)
	}
}

// Path resolves a path of the configuration against the file's folder; no path stays no path.
func (c *Config) Path(p string) string {
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(c.Dir, p)
}

// ViewFiles are the files that Views names, sorted, each once.
func (c *Config) ViewFiles() ([]string, error) {
	var files []string
	var problems Problems
	for _, pattern := range c.Views.Files {
		found, err := filepath.Glob(c.Path(pattern))
		switch {
		case err != nil:
			problems = append(problems, Problem{File: c.File, Text: fmt.Sprintf("views: pattern %q: %v", pattern, err)})
		case len(found) == 0:
			problems = append(problems, Problem{File: c.File, Text: fmt.Sprintf("views: no file matches %q in %s", pattern, c.Dir)})
		}
		files = append(files, found...)
	}
	slices.Sort(files)
	if len(problems) > 0 {
		return nil, problems
	}
	return slices.Compact(files), nil
}

// Masked is the configuration in force as YAML, secrets masked.
func (c *Config) Masked() ([]byte, error) {
	if a := c.DeadLetters.Alert; a != nil { // where a webhook is, is mostly what may not be known
		shown, hidden := *c, *a
		hidden.URL = NewSecret("hidden")
		shown.DeadLetters.Alert = &hidden
		c = &shown
	}
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(c); err != nil {
		return nil, fmt.Errorf("print configuration: %w", err)
	}
	return out.Bytes(), nil
}
