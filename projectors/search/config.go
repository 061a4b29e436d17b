package search

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/lanternist/lanternist/projectors"
)

// Config says how Elasticsearch is reached and how it is written to. Secrets are given resolved; they are
// never part of an error or a log line.
type Config struct {
	// URLs of the nodes, tried in turn. A user and password in a URL are used for that node.
	// Default: http://localhost:9200.
	URLs []string
	// Username and Password for basic authentication. Default: none.
	Username string
	Password string
	// APIKey is an encoded API key ("id:key" in base64). It takes the place of Username and Password. Default: none.
	APIKey string
	// CAFile is a PEM file with the certificate authorities to trust instead of the system's. Default: none.
	CAFile string
	// Fingerprint is the SHA-256 in hexadecimal of a certificate of the node's chain; nothing else of the chain is checked then.
	// Default: none.
	Fingerprint string
	// Insecure accepts any certificate. Default: false.
	Insecure bool

	// Prefix begins the name of every index and alias. Default: "".
	Prefix string
	// GCDeletes is how long a deleted document's version is remembered (index.gc_deletes), and so how late an older write may
	// arrive without bringing it back. Default: 1h.
	GCDeletes time.Duration

	// BulkBytes is the largest body of one bulk request, apart from a single larger document. The size in use adapts
	// below it. At least 64 KiB, at most 64 MiB. Default: 8 MiB.
	BulkBytes int
	// BulkWorkers is how many bulk requests of one Write may be in flight. Default: 2.
	BulkWorkers int
	// BulkTimeout bounds one bulk request. Default: 60s.
	BulkTimeout time.Duration
	// Timeout bounds every other request. Default: 30s.
	Timeout time.Duration
	// Compress sends request bodies in gzip and asks for answers in gzip: less network for more CPU. Default: false.
	Compress bool

	// Circuit is that of the projectors that write to the cluster. While it is open for readers, they are refused at once. Default: none.
	Circuit *projectors.Circuit

	// CursorTTL is how long a cursor stays good after each page: the keep-alive of its point in time. At most 10m. Default: 2m.
	CursorTTL time.Duration
	// MaxCursors is how many points in time may be open for cursors; beyond it the one used longest ago is closed and its cursor
	// has expired. Default: 200.
	MaxCursors int
}

const (
	bulkBytesMin = 64 << 10
	// bulkBytesLeast is the least size in use; a larger document goes alone.
	bulkBytesLeast = 4 << 10
	bulkBytesStart = 1 << 20
	bulkBytesMax   = 64 << 20
	cursorTTLMax   = 10 * time.Minute
)

// withDefaults is the configuration in force.
func (c Config) withDefaults() Config {
	if len(c.URLs) == 0 {
		c.URLs = []string{"http://localhost:9200"}
	}
	setDefault(&c.GCDeletes, time.Hour)
	setDefault(&c.BulkBytes, 8<<20)
	setDefault(&c.BulkWorkers, 2)
	setDefault(&c.BulkTimeout, time.Minute)
	setDefault(&c.Timeout, 30*time.Second)
	setDefault(&c.CursorTTL, 2*time.Minute)
	setDefault(&c.MaxCursors, 200)
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// validPrefix is what may begin an index name: lower case, and no character that Elasticsearch reserves.
var validPrefix = regexp.MustCompile(`^([a-z0-9][a-z0-9_.-]*)?$`)

var validFingerprint = regexp.MustCompile(`^[0-9a-fA-F]{64}$`)

// validate reports every mistake at once.
func (c Config) validate() error {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf("elasticsearch: "+format, args...)) }
	for _, u := range c.URLs {
		if err := validURL(u); err != nil {
			errs = append(errs, err)
		}
	}
	if c.Password != "" && c.Username == "" && c.APIKey == "" {
		add("password without username")
	}
	if fp := c.fingerprint(); fp != "" && !validFingerprint.MatchString(fp) {
		add("fingerprint is not a SHA-256 in hexadecimal")
	}
	if !validPrefix.MatchString(c.Prefix) {
		add("prefix %q: want lower case letters, digits, _ . and -, beginning with a letter or digit", c.Prefix)
	}
	if c.BulkBytes < bulkBytesMin || c.BulkBytes > bulkBytesMax {
		add("bulk bytes %d: want %d to %d", c.BulkBytes, bulkBytesMin, bulkBytesMax)
	}
	if c.BulkWorkers < 1 || c.BulkWorkers > 64 {
		add("bulk workers %d: want 1 to 64", c.BulkWorkers)
	}
	if c.CursorTTL < time.Second || c.CursorTTL > cursorTTLMax {
		add("cursor TTL %s: want 1s to %s", c.CursorTTL, cursorTTLMax)
	}
	if c.MaxCursors < 1 {
		add("max cursors %d: want at least 1", c.MaxCursors)
	}
	if c.GCDeletes < 0 || c.Timeout < 0 || c.BulkTimeout < 0 {
		add("a duration is negative")
	}
	return errors.Join(errs...)
}

// validURL says what is wrong with a URL without repeating a password in it.
func validURL(text string) error {
	u, err := url.Parse(text)
	if err != nil {
		var parse *url.Error
		if errors.As(err, &parse) {
			err = parse.Err // the rest repeats the URL
		}
		return fmt.Errorf("elasticsearch: url is not a URL: %w", err)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return fmt.Errorf("elasticsearch: url %s: want http://host:port or https://host:port", u.Redacted())
	}
	return nil
}

// fingerprint is Fingerprint without the colons that some tools print.
func (c Config) fingerprint() string { return strings.ReplaceAll(c.Fingerprint, ":", "") }
