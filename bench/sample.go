package main

import "fmt"

// sample is what one run says of one line of the result.
type sample struct {
	Name  string // of the line
	About string
	Sink  string // whose raw writes are its limits, or that it writes raw
	Raw   string // kind of raw write; "" when it is a workload
	Load  bool   // a first load, which does not read the stream
	phase
	Documents int // written to the sink, deletes included
}

// rate is changes, or raw operations, per second.
func (s sample) rate() float64 { return float64(s.Operations) / s.Seconds }

func (s sample) String() string {
	return fmt.Sprintf("%-25s %9s/s in %5.2f s", s.Name, thousands(s.rate()), s.Seconds)
}

// sample is a phase as a line of its own.
func (p phase) sample(name, about string) sample { return sample{Name: name, About: about, phase: p} }

// rawSample is a phase of raw writes.
func (p phase) rawSample(sink, kind string, writers int) sample {
	s := p.sample("raw "+sink+" "+kind, fmt.Sprintf("%d writers", writers))
	if writers == 1 {
		s.About = "1 writer"
	}
	s.Sink, s.Raw, s.Documents = sink, kind, p.Operations
	return s
}

// faster is the sample with the higher rate; one without a name has none.
func faster(a, b sample) sample {
	if a.Name == "" || b.rate() > a.rate() {
		return b
	}
	return a
}
