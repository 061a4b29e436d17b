// Package config is the YAML file that a user writes: its shape, its defaults and all of its errors at once.
//
// Nothing else reads YAML settings, flags or the environment; every other package is handed its own Config.
// A value may refer to the environment (${DATABASE_URL}) or to a file (${file:/run/secrets/token}); that is the
// only way to hand over a secret, and what a reference stands for is never printed (see Masked).
package config

import (
	"time"
)

// Config is what lanternist.yaml holds.
type Config struct {
	// Source is the Postgres database that is read.
	Source Source `yaml:"source"`
	// Journal is the durable stream of events.
	Journal Journal `yaml:"journal"`
	// Archive is where the journal's past is kept. Default: nowhere.
	Archive *Archive `yaml:"archive"`
	// Mirror is the local copy of the captured tables.
	Mirror Mirror `yaml:"mirror"`
	// Control is where small durable state lives: schema versions, dead letters, identity.
	Control Control `yaml:"control"`
	// Elasticsearch is the home of search views. Needed when a view has a search section.
	Elasticsearch *Elasticsearch `yaml:"elasticsearch"`
	// Redis is the home of cached views. Needed when a view has a cache section.
	Redis *Redis `yaml:"redis"`
	// HTTP is the query API.
	HTTP HTTP `yaml:"http"`
	// Projectors holds what all projectors share.
	Projectors Projectors `yaml:"projectors"`
	// DeadLetters says who is told of what sinks refuse.
	DeadLetters DeadLetters `yaml:"deadletters"`
	// Snapshot bounds the first load of a table.
	Snapshot Snapshot `yaml:"snapshot"`
	// Log is how the daemon speaks.
	Log Log `yaml:"log"`
	// Views are the files that declare views. Required.
	Views Views `yaml:"views"`

	// Dir is the folder of the file: relative paths start there.
	Dir string `yaml:"-"`
	// File is the path the configuration was read from, for messages.
	File string `yaml:"-"`

	lines map[string]int // of the file: dotted path of a key → its line
}

// Source is the Postgres database that is read.
type Source struct {
	// URL of the database, as libpq takes it; TLS through sslmode, sslrootcert, sslcert and sslkey. Required.
	URL Secret `yaml:"url"`
	// Tables that are captured: "public.orders", or all of a schema: "public.*". Required.
	Tables []string `yaml:"tables"`
	// Slot is the replication slot's name. Default "lanternist".
	Slot string `yaml:"slot"`
	// Publication is the publication's name. Default "lanternist".
	Publication string `yaml:"publication"`
	// Create lets Lanternist create the slot and create or extend the publication. Default true.
	Create *bool `yaml:"create"`
	// BatchBytes bounds what one batch takes from the stream. Default 1MiB, at most 64MiB.
	BatchBytes Size `yaml:"batch_bytes"`
	// SchemaChange is what a changed table means for the views of it: "evolve" pauses those that use what has changed, "halt" all of
	// the table, until they are acknowledged. Default evolve.
	SchemaChange string `yaml:"schema_change"`
	// SchemaChangeExcept are the tables for which it is the other way. Default none.
	SchemaChangeExcept []string `yaml:"schema_change_except"`
	// SchemaCheck is how often the catalog is looked at for changes that the stream does not bring. Default 5s.
	SchemaCheck Duration `yaml:"schema_check"`
}

// Journal says where the journal is and how much it keeps.
type Journal struct {
	// Dir of the embedded journal. Default "data/journal".
	Dir string `yaml:"dir"`
	// URL of a NATS JetStream journal, nats://…; instead of Dir.
	URL Secret `yaml:"url"`
	// Stream is the JetStream stream's name. Default "lanternist".
	Stream string `yaml:"stream"`
	// Replicas of the JetStream stream. Default 1.
	Replicas int `yaml:"replicas"`
	// Retention bounds the journal. What an active projector still needs is never dropped.
	Retention Retention `yaml:"retention"`
}

// Retention bounds the journal by age and by size.
type Retention struct {
	// Age of the oldest batch that is kept. Default 7d.
	Age Duration `yaml:"age"`
	// Size on disk. Default 50GiB.
	Size Size `yaml:"size"`
}

// Archive says where what leaves the journal is kept, and checkpoints of the mirror beside it.
type Archive struct {
	// URL of a blob store: file://data/archive (a folder; relative ones are relative to this file), s3://bucket, gs://bucket or
	// azblob://container. Credentials come from the environment. Required.
	URL Secret `yaml:"url"`
	// FileSize is how much of the journal one file of the archive holds, before compression. Default 64MiB.
	FileSize Size `yaml:"file_size"`
	// Every is how long events wait at most before they are archived, though they fill no file. Default 1h.
	Every Duration `yaml:"every"`
	// Checkpoints are copies of the mirror, from which a view as it was can be made.
	Checkpoints Checkpoints `yaml:"checkpoints"`
}

// Checkpoints says how often the mirror is copied into the archive.
type Checkpoints struct {
	// Every is how long after the last copy the next one is made. Default 24h.
	Every Duration `yaml:"every"`
	// Keep is how many copies are kept. Default 7; 0 makes none.
	Keep *int `yaml:"keep"`
}

// Mirror says where the local tables are.
type Mirror struct {
	// Dir of the mirror. Default "data/mirror".
	Dir string `yaml:"dir"`
	// Cache is the memory for blocks that were read and for rows not yet on disk. Default 64MiB, at least 32MiB.
	Cache Size `yaml:"cache"`
}

// Control says where small durable state is.
type Control struct {
	// Dir of the embedded store. Default "data/control". With a JetStream journal its key-value store is used.
	Dir string `yaml:"dir"`
}

// Elasticsearch is a cluster that holds search views.
type Elasticsearch struct {
	// URL of the cluster; several are separated by commas. Required.
	URL Secret `yaml:"url"`
	// Username and Password, or APIKey, when the cluster wants them. Default none.
	Username string `yaml:"username"`
	Password Secret `yaml:"password"`
	APIKey   Secret `yaml:"api_key"`
	// CAFile is a PEM file with the authority that signed the cluster's certificate. Default the system's.
	CAFile string `yaml:"ca_file"`
	// Fingerprint is the SHA-256, in hexadecimal, of a certificate of the cluster's chain; nothing else of the chain is
	// then checked. Default none.
	Fingerprint string `yaml:"fingerprint"`
	// Prefix of all index and alias names. Default none.
	Prefix string `yaml:"prefix"`
	// BulkBytes bounds one bulk request. Default 5MiB.
	BulkBytes Size `yaml:"bulk_bytes"`
	// BulkTimeout is how long the answer to one is waited for; the next one is then smaller. Default 1m.
	BulkTimeout Duration `yaml:"bulk_timeout"`
}

// Redis is a server that holds cached views.
type Redis struct {
	// URL of the server: redis:// or, with TLS, rediss://. Required.
	URL Secret `yaml:"url"`
	// CAFile is a PEM file with the authority that signed the server's certificate. Default the system's.
	CAFile string `yaml:"ca_file"`
	// Prefix of all keys. Default "lanternist:".
	Prefix *string `yaml:"prefix"`
	// Timeout is how long an answer is waited for. Default 5s.
	Timeout Duration `yaml:"timeout"`
}

// HTTP is the query API.
type HTTP struct {
	// Listen is host:port. Default 127.0.0.1:8080. Another host than loopback wants Token.
	Listen string `yaml:"listen"`
	// Token that clients must send as "Authorization: Bearer …". Default none.
	Token Secret `yaml:"token"`
	// TLSCert and TLSKey are PEM files; both or none. Default none: plain HTTP.
	TLSCert string `yaml:"tls_cert"`
	TLSKey  string `yaml:"tls_key"`
	// MaxWait bounds the wait= of a request. Default 30s.
	MaxWait Duration `yaml:"max_wait"`
	// MaxWaiters bounds the requests that wait for a token at once. Default 10000.
	MaxWaiters int `yaml:"max_waiters"`
	// ReadTimeout bounds what a sink may take for one answer, after the wait. Default 10s.
	ReadTimeout Duration `yaml:"read_timeout"`
}

// Projectors holds what all projectors share, and what single ones have otherwise.
type Projectors struct {
	// MaxAttempts for a document that the sink refuses, before OnPermanent says what happens. Default 3.
	MaxAttempts int `yaml:"max_attempts"`
	// BackoffFirst is the longest the first pause between attempts may be; each one after it may be twice as long as the one before.
	// A pause is a random part of that. Default 50ms.
	BackoffFirst Duration `yaml:"backoff_first"`
	// BackoffMax bounds the pause between attempts while a sink is away, and between probes of a dead one. Default 30s.
	BackoffMax Duration `yaml:"backoff_max"`
	// OnPermanent says what becomes of a document that the sink has refused MaxAttempts times, or that cannot be composed: park makes
	// it a dead letter, stop stops the projector. Default park.
	OnPermanent string `yaml:"on_permanent"`
	// OnFatal says what a projector does that only a person can help, as by a right to write: stop ends it until a rebuild or a
	// restart, retry has it try again after pauses of up to BackoffMax. Default stop.
	OnFatal string `yaml:"on_fatal"`
	// KeepGenerations is how many older generations of a view stay in each sink after a promotion, to go back to. Default 1; 0 none.
	KeepGenerations *int `yaml:"keep_generations"`
	// VerifySample is how many documents of a new generation are read back from the sink and compared with what the view's definition
	// yields, before readers see it. Their number is compared, too. Default 1000; 0 compares nothing.
	VerifySample *int `yaml:"verify_sample"`
	// RebuildRate is how many documents per second a new generation is filled with at most, in each sink. Default 0: as many as go
	// without making the live generations late.
	RebuildRate int `yaml:"rebuild_rate"`
	// Memory bounds what all projectors together hold of documents on their way, and of batches of the journal that they have read
	// from disk. Each sink has the same share of it. Default 64MiB, at least 8MiB.
	Memory Size `yaml:"memory"`
	// Overrides is what single projectors have otherwise, by their name: the view's and the sink's, as in "orders.search".
	// Default none.
	Overrides map[string]Policy `yaml:"overrides"`
}

// DeadLetters says who is told of what sinks refuse.
type DeadLetters struct {
	// Alert is a webhook that is posted to when they pile up. Default none.
	Alert *Alert `yaml:"alert"`
}

// Alert is a webhook for dead letters.
type Alert struct {
	// URL that is posted to: http:// or https://. Required.
	URL Secret `yaml:"url"`
	// Secret is the key of the signature. Required.
	Secret Secret `yaml:"secret"`
	// Depth is how many dead letters of a projector raise the alarm. Default 1, or none with Age.
	Depth int `yaml:"depth"`
	// Age is how old a projector's oldest dead letter may become before the alarm is raised. Default none.
	Age Duration `yaml:"age"`
}

// Snapshot bounds the first load of a table.
type Snapshot struct {
	// Workers that copy key ranges at once. Default 4.
	Workers int `yaml:"workers"`
	// Rate is how many rows all workers together copy per second. Default 0: as many as they can.
	Rate int `yaml:"rate"`
	// Session is how long one snapshot is held on the source before it is renewed. Default 5m.
	Session Duration `yaml:"session"`
	// RangeRows is about how many rows one range has. Default 50000.
	RangeRows int `yaml:"range_rows"`
}

// Log is how the daemon speaks.
type Log struct {
	// Level is debug, info, warn or error. Default info.
	Level string `yaml:"level"`
	// Format is text or json. Default text.
	Format string `yaml:"format"`
}

// SetDefaults fills what the file left out.
func (c *Config) SetDefaults() {
	orString(&c.Source.Slot, "lanternist")
	orString(&c.Source.Publication, "lanternist")
	if c.Source.Create == nil {
		yes := true
		c.Source.Create = &yes
	}
	or(&c.Source.BatchBytes, 1<<20)
	orString(&c.Source.SchemaChange, "evolve")
	or(&c.Source.SchemaCheck, Duration(5*time.Second))
	if c.Journal.URL.IsZero() {
		orString(&c.Journal.Dir, "data/journal")
	}
	orString(&c.Journal.Stream, "lanternist")
	or(&c.Journal.Replicas, 1)
	or(&c.Journal.Retention.Age, Duration(7*24*time.Hour))
	or(&c.Journal.Retention.Size, 50<<30)
	if c.Archive != nil {
		or(&c.Archive.FileSize, 64<<20)
		or(&c.Archive.Every, Duration(time.Hour))
		or(&c.Archive.Checkpoints.Every, Duration(24*time.Hour))
		if c.Archive.Checkpoints.Keep == nil {
			seven := 7
			c.Archive.Checkpoints.Keep = &seven
		}
	}
	orString(&c.Mirror.Dir, "data/mirror")
	or(&c.Mirror.Cache, 64<<20)
	orString(&c.Control.Dir, "data/control")
	if c.Elasticsearch != nil {
		or(&c.Elasticsearch.BulkBytes, 5<<20)
		or(&c.Elasticsearch.BulkTimeout, Duration(time.Minute))
	}
	if c.Redis != nil {
		if c.Redis.Prefix == nil {
			prefix := "lanternist:"
			c.Redis.Prefix = &prefix
		}
		or(&c.Redis.Timeout, Duration(5*time.Second))
	}
	orString(&c.HTTP.Listen, "127.0.0.1:8080")
	or(&c.HTTP.MaxWait, Duration(30*time.Second))
	or(&c.HTTP.MaxWaiters, 10000)
	or(&c.HTTP.ReadTimeout, Duration(10*time.Second))
	or(&c.Projectors.MaxAttempts, 3)
	or(&c.Projectors.BackoffFirst, Duration(50*time.Millisecond))
	or(&c.Projectors.BackoffMax, Duration(30*time.Second))
	orString(&c.Projectors.OnPermanent, Park)
	orString(&c.Projectors.OnFatal, Stop)
	or(&c.Projectors.Memory, 64<<20)
	if c.Projectors.KeepGenerations == nil {
		one := 1
		c.Projectors.KeepGenerations = &one
	}
	if c.Projectors.VerifySample == nil {
		thousand := 1000
		c.Projectors.VerifySample = &thousand
	}
	if a := c.DeadLetters.Alert; a != nil && a.Age == 0 {
		or(&a.Depth, 1)
	}
	or(&c.Snapshot.Workers, 4)
	or(&c.Snapshot.Session, Duration(5*time.Minute))
	or(&c.Snapshot.RangeRows, 50000)
	if c.Views.AutoRebuild == nil {
		yes := true
		c.Views.AutoRebuild = &yes
	}
	orString(&c.Log.Level, "info")
	orString(&c.Log.Format, "text")
}

func or[T int | Size | Duration](v *T, otherwise T) {
	if *v == 0 {
		*v = otherwise
	}
}

func orString(v *string, otherwise string) {
	if *v == "" {
		*v = otherwise
	}
}
