package search

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestParseFilters(t *testing.T) {
	for expression, want := range map[string][]Filter{
		"":                     nil,
		"  \t\n":               nil,
		"a:b":                  {{Field: "a", Values: []string{"b"}}},
		"a=b":                  {{Field: "a", Values: []string{"b"}}},
		"a:b,c  d.e>=1":        {{Field: "a", Values: []string{"b", "c"}}, {Field: "d.e", Op: Gte, Values: []string{"1"}}},
		"a<1 a<=1 a>1":         {{Field: "a", Op: Lt, Values: []string{"1"}}, {Field: "a", Op: Lte, Values: []string{"1"}}, {Field: "a", Op: Gt, Values: []string{"1"}}},
		"-a:b":                 {{Field: "a", Values: []string{"b"}, Not: true}},
		"a:-1":                 {{Field: "a", Values: []string{"-1"}}},
		"a:*":                  {{Field: "a", Op: Exists}},
		"-a:*":                 {{Field: "a", Op: Exists, Not: true}},
		"a:b*":                 {{Field: "a", Op: Prefix, Values: []string{"b"}}},
		`a:"b*"`:               {{Field: "a", Values: []string{"b*"}}},
		`a:"b c"*`:             {{Field: "a", Op: Prefix, Values: []string{"b c"}}},
		`a:"",x`:               {{Field: "a", Values: []string{"", "x"}}},
		`a:"say \"hi\" \\",b`:  {{Field: "a", Values: []string{`say "hi" \`, "b"}}},
		`"a b":c`:              {{Field: "a b", Values: []string{"c"}}},
		`-"-a":c`:              {{Field: "-a", Values: []string{"c"}, Not: true}},
		"t>=2026-01-31T12:30Z": {{Field: "t", Op: Gte, Values: []string{"2026-01-31T12:30Z"}}},
		"at:10:30":             {{Field: "at", Values: []string{"10:30"}}},
		"größe:ß,日本":           {{Field: "größe", Values: []string{"ß", "日本"}}},
	} {
		got, err := ParseFilters(expression)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %+v, %v, want %+v", expression, got, err, want)
		}
	}
}

func TestParseFiltersSaysWhere(t *testing.T) {
	for expression, want := range map[string]string{
		"a":                                "want an operator",
		"a b:c":                            "want an operator",
		":b":                               "character 1: want a field",
		"a:":                               "character 3: want a value",
		"a: b":                             "want a value",
		"a:b,":                             "want a value",
		"a>1,2":                            `unexpected ","`,
		"a>*":                              "want a value",
		"a:**":                             `unexpected "*"`,
		"a:b*,c*":                          `unexpected ","`,
		"a:b,c*":                           "prefix",
		`a:"b`:                             "not closed",
		`a:"b\n"`:                          "backslash",
		`a:"b"c`:                           `unexpected "c"`,
		"ß:ok ø!>":                         "character 9: want a value",
		"a:\xff":                           "UTF-8",
		strings.Repeat("a:b ", 65):         "more than 64",
		"a:" + strings.Repeat("x,", 2000):  "more than 1024",
		"a:" + strings.Repeat("x", 20_000): "bytes",
	} {
		_, err := ParseFilters(expression)
		if !errors.Is(err, ErrBadQuery) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %q", expression, err, want)
		}
	}
}

// FuzzParseFilters checks that what is read can be written and read again.
func FuzzParseFilters(f *testing.F) {
	for _, seed := range []string{"a:b,c -d>=1", `"x y":"q\"\\",* z:p*`, "a:*", `-"-a"<"=b"`, "a=-1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, expression string) {
		filters, err := ParseFilters(expression)
		if err != nil {
			return
		}
		var texts []string
		for _, filter := range filters {
			texts = append(texts, filter.String())
		}
		again, err := ParseFilters(strings.Join(texts, " "))
		if errors.Is(err, ErrBadQuery) && len(strings.Join(texts, " ")) > filterBytesMax {
			return
		}
		if err != nil || !reflect.DeepEqual(filters, again) {
			t.Errorf("%q became %q: %+v, %v", expression, texts, again, err)
		}
	})
}

func TestParseSort(t *testing.T) {
	got, err := ParseSort(" -placed_at, id ,_score")
	want := []Sort{{Field: "placed_at", Descending: true}, {Field: "id"}, {Field: "_score"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, text := range []string{",", "a,,b", "-", strings.Repeat("a,", 8) + "a"} {
		if _, err := ParseSort(text); !errors.Is(err, ErrBadQuery) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestCursorSetClosesTheOneUsedLongestAgo(t *testing.T) {
	s := newCursorSet(2)
	for _, step := range []struct{ before, after, evicted string }{
		{"a", "a", ""}, {"b", "b", ""}, {"a", "a2", ""}, {"c", "c", "b"}, {"c", "", ""}, {"d", "d", ""}, {"gone", "e", "a2"},
	} {
		if got := strings.Join(s.use(step.before, step.after), " "); got != step.evicted {
			t.Errorf("%+v: evicted %q", step, got)
		}
	}
	if got := strings.Join(s.drain(), " "); got != "d e" {
		t.Errorf("open: %q", got)
	}
	if len(s.drain()) != 0 {
		t.Error("drained twice")
	}
}

func TestConfigReportsEveryMistake(t *testing.T) {
	_, err := NewClient(Config{
		URLs: []string{"localhost:9200", "http://me:s3cret@[bad", "ftp://me:s3cret@host"}, Password: "s3cret", Fingerprint: "x", Prefix: "UPPER",
		BulkBytes: 5, BulkWorkers: 100, CursorTTL: 1, MaxCursors: -1, Timeout: -1,
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, part := range []string{"localhost:9200", "not a URL", "ftp", "password without username", "SHA-256", "UPPER", "bulk bytes", "bulk workers", "cursor TTL", "max cursors", "negative"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in %v", part, err)
		}
	}
	if strings.Contains(err.Error(), "s3cret") {
		t.Errorf("a password is in %v", err)
	}
	if _, err := NewClient(Config{CAFile: "filter.go"}); err == nil || !strings.Contains(err.Error(), "PEM") {
		t.Errorf("CA file without certificates: %v", err)
	}
	if _, err := NewClient(Config{CAFile: "nowhere.pem"}); err == nil {
		t.Error("CA file that is not there")
	}
}
