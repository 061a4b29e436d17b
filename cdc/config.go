package cdc

import (
	"errors"
	"fmt"
	"regexp"
	"time"
)

// Config says which tables of which database are captured, and how. A zero value of a field that names a
// default stands for that default; [DefaultConfig] has them all filled in.
type Config struct {
	// URL of the database as libpq understands it, with host, user, password, database and TLS settings
	// (sslmode, sslrootcert, …). Required.
	URL string `yaml:"url"`
	// Slot is the name of the logical replication slot: lower-case letters, digits and underscores, at most 63.
	// Each reader needs its own. Default: lanternist.
	Slot string `yaml:"slot"`
	// Publication is the name of the publication. Default: lanternist.
	Publication string `yaml:"publication"`
	// Tables that are captured: "public.orders", or "public.*" for every ordinary and partitioned table of a
	// schema. A name without a schema is in public. Names are taken as they are written, or in double quotes
	// when they contain dots. Required.
	Tables []string `yaml:"tables"`

	// CreateSlot lets Setup create the slot when it does not exist. Default in DefaultConfig: true.
	CreateSlot bool `yaml:"create_slot"`
	// CreatePublication lets Setup create the publication and add tables to it. Default in DefaultConfig: true.
	CreatePublication bool `yaml:"create_publication"`

	// BatchBytes is about how many bytes of changes one Delivery holds at most, unless a single change is
	// larger. Default: 1 MiB.
	BatchBytes int `yaml:"batch_bytes"`
	// BatchChanges is how many changes one Delivery holds at most. Default: 16384.
	BatchChanges int `yaml:"batch_changes"`
	// QueueBytes is how many received bytes wait to be decoded before the reader stops reading from the
	// server. Default: 4 times BatchBytes.
	QueueBytes int `yaml:"queue_bytes"`

	// ConnectTimeout bounds one attempt to connect. Default: 10s.
	ConnectTimeout time.Duration `yaml:"connect_timeout"`
	// ReceiveTimeout is how long the server may be silent, although it is asked for an answer three times in
	// this time, before the connection counts as lost. Default: 60s.
	ReceiveTimeout time.Duration `yaml:"receive_timeout"`
	// ReconnectDelayMin bounds the first wait before connecting again. Waits are random below their bound, which
	// doubles with each attempt that brought nothing. Default: 200ms.
	ReconnectDelayMin time.Duration `yaml:"reconnect_delay_min"`
	// ReconnectDelayMax bounds every wait. Default: 15s.
	ReconnectDelayMax time.Duration `yaml:"reconnect_delay_max"`
	// SlotTimeout bounds the wait for a slot that another connection holds; after a crash the server may need
	// its wal_sender_timeout to notice. Default: 90s.
	SlotTimeout time.Duration `yaml:"slot_timeout"`
	// CreateTimeout bounds the creation of a slot, which waits for every transaction open at that moment.
	// Default: 60s.
	CreateTimeout time.Duration `yaml:"create_timeout"`
}

// DefaultConfig is a Config with every default; URL and Tables are still to be filled in.
func DefaultConfig() Config {
	return Config{CreateSlot: true, CreatePublication: true}.withDefaults()
}

func (c Config) withDefaults() Config {
	setDefault(&c.Slot, "lanternist")
	setDefault(&c.Publication, "lanternist")
	setDefault(&c.BatchBytes, 1<<20)
	setDefault(&c.BatchChanges, 16384)
	setDefault(&c.QueueBytes, 4*c.BatchBytes)
	setDefault(&c.ConnectTimeout, 10*time.Second)
	setDefault(&c.ReceiveTimeout, time.Minute)
	setDefault(&c.ReconnectDelayMin, 200*time.Millisecond)
	setDefault(&c.ReconnectDelayMax, 15*time.Second)
	setDefault(&c.SlotTimeout, 90*time.Second)
	setDefault(&c.CreateTimeout, time.Minute)
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

var slotName = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)

// Validate returns every error of the configuration that can be seen without a database.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	if c.URL == "" {
		errs = append(errs, errors.New("url: missing"))
	} else if _, err := normalConfig(c); err != nil {
		errs = append(errs, fmt.Errorf("url: %w", err))
	}
	if !slotName.MatchString(c.Slot) {
		errs = append(errs, fmt.Errorf("slot: %q: only lower-case letters, digits and underscores, at most 63", c.Slot))
	}
	if len(c.Tables) == 0 {
		errs = append(errs, errors.New("tables: none named"))
	}
	for _, name := range c.Tables {
		if _, err := parseTable(name); err != nil {
			errs = append(errs, fmt.Errorf("tables: %w", err))
		}
	}
	for _, number := range []struct {
		name  string
		value int64
	}{
		{"batch_bytes", int64(c.BatchBytes)}, {"batch_changes", int64(c.BatchChanges)}, {"queue_bytes", int64(c.QueueBytes)},
		{"connect_timeout", int64(c.ConnectTimeout)}, {"receive_timeout", int64(c.ReceiveTimeout)},
		{"reconnect_delay_min", int64(c.ReconnectDelayMin)}, {"reconnect_delay_max", int64(c.ReconnectDelayMax)},
		{"slot_timeout", int64(c.SlotTimeout)}, {"create_timeout", int64(c.CreateTimeout)},
	} {
		if number.value < 0 {
			errs = append(errs, fmt.Errorf("%s: negative", number.name))
		}
	}
	return errors.Join(errs...)
}
