package verify

import (
	"errors"
	"fmt"
)

// Against is where what documents should be comes from.
type Against string

// What documents are compared with.
const (
	AgainstMirror Against = "mirror"
	AgainstSource Against = "source"
)

// Options say what is compared. Zero fields have their defaults.
type Options struct {
	// Against is the mirror or the source. Default the mirror.
	Against Against
	// Sample is how many rows of the root table, chosen at random, are looked at. Default 0: all of them, and whether
	// the sinks hold documents that should not be.
	Sample int
	// Seed chooses the sample. Default 0: at random; Result.Seed names it.
	Seed uint64
	// Repair has documents that are not as they should be written again, or deleted.
	Repair bool
	// Rate bounds how many documents are looked at per second, in each sink. Default 5,000.
	Rate int
}

// DefaultRate is that of Options.
const DefaultRate = 5000

func (o Options) withDefaults() (Options, error) {
	if o.Against == "" {
		o.Against = AgainstMirror
	}
	if o.Rate == 0 {
		o.Rate = DefaultRate
	}
	var errs []error
	if o.Against != AgainstMirror && o.Against != AgainstSource {
		errs = append(errs, fmt.Errorf("against is %q, not mirror or source", o.Against))
	}
	if o.Sample < 0 || o.Sample > sampleMax {
		errs = append(errs, fmt.Errorf("sample is %d, not 0 to %d", o.Sample, sampleMax))
	}
	if o.Rate < 0 {
		errs = append(errs, fmt.Errorf("rate is negative: %d", o.Rate))
	}
	return o, errors.Join(errs...)
}

// Bounds.
const (
	sampleMax   = 1_000_000
	suspectsMax = 100_000 // documents that are looked at again, per sink
	workers     = 16      // documents that are looked at at once
	refreshSize = 500     // documents repaired at once
	shownMax    = 20      // differences that a result shows, per sink
)
