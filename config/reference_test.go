package config

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// tableRow is a row of a table of docs/configuration.md: a setting in code, then its default.
var tableRow = regexp.MustCompile("(?m)^\\| `([a-z_.]+)` \\| ([^|]*) \\|")

// TestReference holds docs/configuration.md to the Config struct: each setting is a row of a table there, with the default
// that SetDefaults gives, and no row is of a setting that does not exist.
func TestReference(t *testing.T) {
	text, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	for _, m := range tableRow.FindAllStringSubmatch(string(text), -1) {
		if _, twice := documented[m[1]]; twice {
			t.Errorf("docs/configuration.md: %s has two rows", m[1])
		}
		documented[m[1]] = m[2]
	}
	c := &Config{Archive: &Archive{}, Elasticsearch: &Elasticsearch{}, Redis: &Redis{}, DeadLetters: DeadLetters{Alert: &Alert{}}}
	c.SetDefaults()
	settings := map[string]string{}
	defaultsOf(reflect.ValueOf(c), "", settings)
	if len(settings) < 30 {
		t.Fatalf("only %d settings found: %v", len(settings), settings)
	}
	for key, value := range settings {
		shown, ok := documented[key]
		switch {
		case !ok:
			t.Errorf("docs/configuration.md has no row for %s", key)
		case value != "" && !strings.Contains(shown, "`"+value+"`"):
			t.Errorf("docs/configuration.md: default of %s is %q there, `%s` in force", key, shown, value)
		case value == "" && strings.Contains(shown, "`"):
			t.Errorf("docs/configuration.md: %s has default %q there, none in force", key, shown)
		}
	}
	for key := range documented {
		if _, ok := settings[key]; !ok {
			t.Errorf("docs/configuration.md has a row for %s, which does not exist", key)
		}
	}
}

// defaultsOf collects the settings below v by dotted path, each with its value as text; "" when it has none.
func defaultsOf(v reflect.Value, path string, settings map[string]string) {
	for v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if _, isSecret := v.Interface().(Secret); v.Kind() != reflect.Struct || isSecret {
		settings[path] = ""
		if !v.IsZero() {
			settings[path] = strings.ReplaceAll(fmt.Sprint(v.Interface()), "m0s", "m") // 5m, as a person writes it
		}
		return
	}
	for f, value := range v.Fields() {
		name := strings.Split(f.Tag.Get("yaml"), ",")[0]
		if name == "" || name == "-" {
			continue
		}
		defaultsOf(value, strings.TrimPrefix(path+"."+name, "."), settings)
	}
}
