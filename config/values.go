package config

import (
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Duration is a time.Duration that YAML writes as "500ms", "2s", "7d".
type Duration time.Duration

// D is the time.Duration.
func (d Duration) D() time.Duration { return time.Duration(d) }

// String prints the shortest form that reads back the same.
func (d Duration) String() string {
	const day = 24 * time.Hour
	if t := time.Duration(d); t != 0 && t%day == 0 {
		return strconv.Itoa(int(t/day)) + "d"
	}
	return time.Duration(d).String()
}

// ParseDuration reads what Duration prints: Go's durations and, besides, whole days.
func ParseDuration(s string) (Duration, error) {
	if n, ok := strings.CutSuffix(s, "d"); ok {
		days, err := strconv.ParseUint(n, 10, 16)
		if err != nil {
			return 0, fmt.Errorf("%q is not a duration; write 500ms, 30s, 12h or 7d", s)
		}
		return Duration(time.Duration(days) * 24 * time.Hour), nil
	}
	t, err := time.ParseDuration(s)
	if err != nil || t < 0 {
		return 0, fmt.Errorf("%q is not a duration; write 500ms, 30s, 12h or 7d", s)
	}
	return Duration(t), nil
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (d *Duration) UnmarshalYAML(n *yaml.Node) error {
	return parseInto(n, d, ParseDuration)
}

// MarshalYAML implements yaml.Marshaler.
func (d Duration) MarshalYAML() (any, error) { return d.String(), nil }

// Size is a number of bytes that YAML writes as "512KiB", "8MiB", "50GiB".
type Size int64

var sizePattern = regexp.MustCompile(`^([0-9]+)\s*(B|KiB|MiB|GiB|TiB|KB|MB|GB|TB)?$`)

var sizeUnits = map[string]int64{
	"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
	"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
}

// ParseSize reads what Size prints, and decimal units.
func ParseSize(s string) (Size, error) {
	m := sizePattern.FindStringSubmatch(s)
	if m == nil {
		return 0, fmt.Errorf("%q is not a size; write 512KiB, 8MiB or 50GiB", s)
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	unit := sizeUnits[m[2]]
	if err != nil || n > (1<<62)/unit {
		return 0, fmt.Errorf("size %q is too large", s)
	}
	return Size(n * unit), nil
}

// String prints the size in the largest binary unit that divides it.
func (s Size) String() string {
	for _, unit := range []string{"TiB", "GiB", "MiB", "KiB"} {
		if u := sizeUnits[unit]; s != 0 && int64(s)%u == 0 {
			return strconv.FormatInt(int64(s)/u, 10) + unit
		}
	}
	return strconv.FormatInt(int64(s), 10) + "B"
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (s *Size) UnmarshalYAML(n *yaml.Node) error {
	return parseInto(n, s, ParseSize)
}

// MarshalYAML implements yaml.Marshaler.
func (s Size) MarshalYAML() (any, error) { return s.String(), nil }

func parseInto[T any](n *yaml.Node, to *T, parse func(string) (T, error)) error {
	v, err := parse(n.Value)
	if err != nil {
		return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: %v", n.Line, err)}}
	}
	*to = v
	return nil
}

// Secret is a string that may hold a secret: a password, a token, or a URL with a password in it.
// It prints masked everywhere; Reveal gives the text.
type Secret struct{ text string }

// NewSecret is a Secret of the text.
func NewSecret(text string) Secret { return Secret{text} }

// Reveal is the text itself. It must not be printed.
func (s Secret) Reveal() string { return s.text }

// IsZero says whether there is no text.
func (s Secret) IsZero() bool { return s.text == "" }

// String is the masked text: a URL without its password, or asterisks.
func (s Secret) String() string {
	if s.text == "" {
		return ""
	}
	u, err := url.Parse(s.text)
	if err != nil || u.Scheme == "" || u.Host == "" {
		return "****"
	}
	if _, has := u.User.Password(); has {
		u.User = url.UserPassword(u.User.Username(), "****")
	}
	q := u.Query()
	for name := range q {
		if strings.Contains(strings.ToLower(name), "pass") {
			q.Set(name, "****")
		}
	}
	u.RawQuery = q.Encode()
	return strings.ReplaceAll(u.String(), "%2A%2A%2A%2A", "****")
}

// GoString keeps %#v from printing the text.
func (s Secret) GoString() string { return s.String() }

// MarshalYAML implements yaml.Marshaler: masked.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }

// MarshalText implements encoding.TextMarshaler: masked, so that JSON and slog do not reveal it.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalYAML implements yaml.Unmarshaler.
func (s *Secret) UnmarshalYAML(n *yaml.Node) error {
	s.text = n.Value
	return nil
}
