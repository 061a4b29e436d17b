package main

import (
	"slices"
)

// result is what a benchmark came to. It is printed as JSON, too.
type result struct {
	Machine machine `json:"machine"`
	Changes int     `json:"changes"`
	Rows    int     `json:"rows"`
	Runs    int     `json:"runs"`
	Lines   []line  `json:"lines"`
}

// line is one thing measured, over all runs. Values are medians.
type line struct {
	Name    string  `json:"name"`
	About   string  `json:"about"`            // of the first run
	Rate    float64 `json:"rate"`             // changes, or raw operations, per second
	RateMin float64 `json:"rate_min"`         //
	RateMax float64 `json:"rate_max"`         //
	Seconds float64 `json:"seconds"`          //
	Raw     bool    `json:"raw"`              // a limit: writes without Lanternist
	Written int     `json:"written,omitzero"` // documents written to the sink, deletes included
	// OfReceive is the ratio to the reader that only receives, in the same run; 0 when there was none.
	OfReceive float64 `json:"of_receive,omitzero"`
	// OfRaw are the ratios to each kind of raw write to the same sink, in the same run.
	OfRaw []ratio `json:"of_raw,omitempty"`
	// CPU is CPU seconds of the process per 100,000 changes, 0 when not known.
	CPU float64 `json:"cpu_seconds_per_100k,omitzero"`
	// PeakBytes is the process's peak of resident memory, 0 when not known.
	PeakBytes int64 `json:"peak_bytes,omitzero"`
}

// ratio is to a limit.
type ratio struct {
	Limit string  `json:"limit"` // kind of raw write
	Value float64 `json:"value"`
}

// newResult makes lines of the samples of all runs, which have the same lines in the same order.
func newResult(m machine, o options, runs [][]sample) *result {
	r := &result{Machine: m, Changes: o.changes, Rows: o.rows, Runs: len(runs)}
	for i := range runs[0] {
		r.Lines = append(r.Lines, newLine(i, runs))
	}
	return r
}

// newLine makes a line of the i-th sample of each run.
func newLine(i int, runs [][]sample) line {
	of := func(value func(sample) float64) float64 {
		return median(runs, func(run []sample) float64 { return value(run[i]) })
	}
	first := runs[0][i]
	l := line{
		Name: first.Name, About: first.About, Raw: first.Raw != "",
		Rate:      of(sample.rate),
		RateMin:   slices.Min(each(runs, func(run []sample) float64 { return run[i].rate() })),
		RateMax:   slices.Max(each(runs, func(run []sample) float64 { return run[i].rate() })),
		Seconds:   of(func(s sample) float64 { return s.Seconds }),
		Written:   int(of(func(s sample) float64 { return float64(s.Documents) })),
		CPU:       of(func(s sample) float64 { return s.CPUSeconds / float64(s.Operations) * 100_000 }),
		PeakBytes: int64(of(func(s sample) float64 { return float64(s.PeakBytes) })),
	}
	if l.Raw {
		return l
	}
	for k, limit := range runs[0] {
		to := median(runs, func(run []sample) float64 { return run[i].rate() / run[k].rate() })
		switch {
		case limit.Name == lineReceive && !first.Load:
			l.OfReceive = to
		case limit.Raw != "" && limit.Sink == first.Sink:
			l.OfRaw = append(l.OfRaw, ratio{limit.Raw, to})
		}
	}
	return l
}

// each is a value of each run.
func each(runs [][]sample, value func([]sample) float64) []float64 {
	values := make([]float64, len(runs))
	for i, run := range runs {
		values[i] = value(run)
	}
	return values
}

// median is the median over the runs, of an even number of them the mean of the two in the middle.
func median(runs [][]sample, value func([]sample) float64) float64 {
	values := each(runs, value)
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}
