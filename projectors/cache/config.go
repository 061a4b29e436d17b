package cache

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/lanternist/lanternist/projectors"
)

// Config says which Redis, and how to use it.
type Config struct {
	// URL is redis://user:password@host:port/db, or rediss:// for TLS. redis+cluster://host:port?addr=host2:port names
	// a cluster by some of its nodes, redis+sentinel://host:port?master_name=name a group watched by sentinels; with an s
	// after redis (rediss+cluster://) for TLS. Other options of the client may follow as query parameters.
	URL string
	TLS TLS
	// Prefix begins every key. Default "lanternist:".
	Prefix string
	// TombstoneTTL is how long a deletion is remembered, so that no older write can undo it. It must be longer than a
	// writer that has lost its place may linger. Default 1h.
	TombstoneTTL time.Duration
	// BatchBytes bounds what one call of the write script may carry, in bytes, and with it how long Redis serves nobody
	// else. A document that is larger goes alone. Default 256 KiB.
	BatchBytes int
	// BatchDocuments bounds the documents of one call of the write script. Default 128.
	BatchDocuments int
	// PipelineSize is how many calls of the write script are sent at most before their answers are awaited: fewer, and smaller ones,
	// while Redis does not answer in time. Default 16.
	PipelineSize int
	// Timeout bounds the wait for an answer on a connection. Default 5s.
	Timeout time.Duration
	// PoolSize bounds the connections to one node. Default 10 per CPU.
	PoolSize int
	// Circuit is that of the projectors that write to this Redis. While it is open for readers, they are refused at once. Default
	// none.
	Circuit *projectors.Circuit
}

// TLS adds to what a rediss:// URL asks for. Paths of PEM files.
type TLS struct {
	CAFile     string // trusts these authorities instead of the system's
	CertFile   string // presents this certificate, with KeyFile
	KeyFile    string
	ServerName string // expects this name instead of the URL's host
}

// pipelineBytesLeast is the least size in use of what is sent together; a larger document goes alone.
const pipelineBytesLeast = 4 << 10

// Who calls decides about waiting and repeating. One retry covers a connection that the server has closed meanwhile.
const (
	retries       = 1
	dialerRetries = 1
)

func (c Config) withDefaults() Config {
	if c.Prefix == "" {
		c.Prefix = "lanternist:"
	}
	if c.TombstoneTTL <= 0 {
		c.TombstoneTTL = time.Hour
	}
	if c.BatchBytes <= 0 {
		c.BatchBytes = 256 << 10
	}
	if c.BatchDocuments <= 0 {
		c.BatchDocuments = 128
	}
	if c.PipelineSize <= 0 {
		c.PipelineSize = 16
	}
	if c.Timeout <= 0 {
		c.Timeout = 5 * time.Second
	}
	return c
}

// dial makes the client of the kind of Redis that the URL names. It does not connect.
func (c *Config) dial() (redis.UniversalClient, error) {
	u, err := url.Parse(c.URL)
	if err != nil {
		// url.Error prints the whole URL, which may hold a password.
		return nil, fmt.Errorf("redis url: %w", errors.Unwrap(err))
	}
	if strings.ContainsAny(c.Prefix, "{}") {
		return nil, fmt.Errorf("redis prefix %q: braces are not allowed", c.Prefix)
	}
	scheme, kind, _ := strings.Cut(u.Scheme, "+")
	if scheme != "redis" && scheme != "rediss" && (u.Scheme != "unix") {
		return nil, fmt.Errorf("redis url: scheme %q; want redis, rediss, redis+cluster, redis+sentinel or unix", u.Scheme)
	}
	u.Scheme = scheme
	switch kind {
	case "":
		return c.dialSingle(u.String())
	case "cluster":
		return c.dialCluster(u.String())
	case "sentinel":
		return c.dialSentinel(u.String())
	}
	return nil, fmt.Errorf("redis url: unknown kind %q; want redis+cluster or redis+sentinel", kind)
}

func (c *Config) dialSingle(rawURL string) (redis.UniversalClient, error) {
	o, err := redis.ParseURL(rawURL)
	if err != nil {
		return nil, fmt.Errorf("redis url: %w", err)
	}
	if o.TLSConfig, err = c.TLS.apply(o.TLSConfig); err != nil {
		return nil, err
	}
	o.ReadTimeout, o.WriteTimeout, o.DialTimeout = c.Timeout, c.Timeout, c.Timeout
	o.ContextTimeoutEnabled = true
	o.DisableIdentity = true
	o.MaxRetries, o.DialerRetries = retries, dialerRetries
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	o.PoolSize = c.poolSize(o.PoolSize)
	return redis.NewClient(o), nil
}

func (c *Config) dialCluster(rawURL string) (redis.UniversalClient, error) {
	o, err := redis.ParseClusterURL(rawURL)
	if err != nil {
		return nil, fmt.Errorf("redis url: %w", err)
	}
	if o.TLSConfig, err = c.TLS.apply(o.TLSConfig); err != nil {
		return nil, err
	}
	o.ReadTimeout, o.WriteTimeout, o.DialTimeout = c.Timeout, c.Timeout, c.Timeout
	o.ContextTimeoutEnabled = true
	o.DisableIdentity = true
	o.MaxRetries, o.DialerRetries = retries, dialerRetries
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	o.PoolSize = c.poolSize(o.PoolSize)
	return redis.NewClusterClient(o), nil
}

func (c *Config) dialSentinel(rawURL string) (redis.UniversalClient, error) {
	o, err := redis.ParseFailoverURL(rawURL)
	if err != nil {
		return nil, fmt.Errorf("redis url: %w", err)
	}
	if o.MasterName == "" {
		return nil, errors.New("redis url: redis+sentinel needs ?master_name=…")
	}
	if o.TLSConfig, err = c.TLS.apply(o.TLSConfig); err != nil {
		return nil, err
	}
	o.ReadTimeout, o.WriteTimeout, o.DialTimeout = c.Timeout, c.Timeout, c.Timeout
	o.ContextTimeoutEnabled = true
	o.DisableIdentity = true
	o.MaxRetries, o.DialerRetries = retries, dialerRetries
	o.PoolSize = c.poolSize(o.PoolSize)
	return redis.NewFailoverClient(o), nil
}

// poolSize prefers the configuration to what the URL says.
func (c *Config) poolSize(fromURL int) int {
	if c.PoolSize > 0 {
		return c.PoolSize
	}
	return fromURL
}

// apply completes the TLS configuration that the URL asked for; nil is plain TCP.
func (t *TLS) apply(conf *tls.Config) (*tls.Config, error) {
	if conf == nil {
		if *t != (TLS{}) {
			return nil, errors.New("redis tls: the url must begin with rediss")
		}
		return nil, nil
	}
	conf = conf.Clone()
	if t.ServerName != "" {
		conf.ServerName = t.ServerName
	}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("redis tls: authorities: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("redis tls: no certificate in %s", t.CAFile)
		}
	}
	if t.CertFile != "" || t.KeyFile != "" {
		pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("redis tls: certificate: %w", err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	return conf, nil
}
