package config

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/lanternist/lanternist/suggest"
)

// What can become of what fails for good.
const (
	Park  = "park"  // a document becomes a dead letter
	Stop  = "stop"  // the projector stops
	Retry = "retry" // the projector tries again after a pause
)

// Policy is what one projector does about failures. A field that is not set is as in Projectors.
type Policy struct {
	MaxAttempts  int      `yaml:"max_attempts,omitempty"`
	BackoffFirst Duration `yaml:"backoff_first,omitempty"`
	BackoffMax   Duration `yaml:"backoff_max,omitempty"`
	OnPermanent  string   `yaml:"on_permanent,omitempty"`
	OnFatal      string   `yaml:"on_fatal,omitempty"`
	RebuildRate  int      `yaml:"rebuild_rate,omitempty"`
}

// Policy is what a projector does about failures.
func (p *Projectors) Policy(projector string) Policy {
	o := p.Overrides[projector]
	return Policy{
		MaxAttempts:  cmp.Or(o.MaxAttempts, p.MaxAttempts),
		BackoffFirst: cmp.Or(o.BackoffFirst, p.BackoffFirst),
		BackoffMax:   cmp.Or(o.BackoffMax, p.BackoffMax),
		OnPermanent:  cmp.Or(o.OnPermanent, p.OnPermanent),
		OnFatal:      cmp.Or(o.OnFatal, p.OnFatal),
		RebuildRate:  cmp.Or(o.RebuildRate, p.RebuildRate),
	}
}

// memoryLeast is what a few documents and a batch take at least.
const memoryLeast = 8 << 20

func (p *parser) validateProjectors(c *Projectors) {
	const at = "projectors"
	p.atLeast(at+".keep_generations", *c.KeepGenerations, 0)
	p.atLeast(at+".verify_sample", *c.VerifySample, 0)
	if c.Memory < memoryLeast {
		p.add(p.line(at+".memory"), "projectors.memory is %v; it must be at least %v", c.Memory, Size(memoryLeast))
	}
	p.validatePolicy(at, c.Policy(""), nil)
	for _, name := range slices.Sorted(maps.Keys(c.Overrides)) {
		path := at + ".overrides." + name
		p.validatePolicy(path, c.Policy(name), func(key string) bool { return p.lines[path+"."+key] != 0 })
		if o := c.Overrides[name]; o == (Policy{}) && p.lines[path] != 0 {
			p.add(p.line(path), "%s overrides nothing", path)
		}
	}
}

// validatePolicy checks a policy of which given says which settings stand in the file below path; nil: all are.
func (p *parser) validatePolicy(path string, c Policy, given func(key string) bool) {
	is := func(keys ...string) bool { return given == nil || slices.ContainsFunc(keys, given) }
	if is("max_attempts") {
		p.atLeast(path+".max_attempts", c.MaxAttempts, 1)
	}
	if is("rebuild_rate") {
		p.atLeast(path+".rebuild_rate", c.RebuildRate, 0)
	}
	if is("on_permanent") {
		p.oneOf(path+".on_permanent", c.OnPermanent, Park, Stop)
	}
	if is("on_fatal") {
		p.oneOf(path+".on_fatal", c.OnFatal, Stop, Retry)
	}
	if is("backoff_first", "backoff_max") && c.BackoffFirst > c.BackoffMax {
		p.add(max(p.line(path+".backoff_first"), p.line(path+".backoff_max")), "%s.backoff_first is %v, longer than backoff_max, %v", path, c.BackoffFirst, c.BackoffMax)
	}
}

// UnknownProjectors are the overrides that are of none of the projectors there are.
func (c *Config) UnknownProjectors(projectors []string) Problems {
	var unknown Problems
	for _, name := range slices.Sorted(maps.Keys(c.Projectors.Overrides)) {
		if slices.Contains(projectors, name) {
			continue
		}
		hint := "; there are: " + strings.Join(slices.Sorted(slices.Values(projectors)), ", ")
		if near, ok := suggest.Nearest(name, projectors); ok {
			hint = fmt.Sprintf("; did you mean %q?", near)
		}
		path := "projectors.overrides." + name
		unknown = append(unknown, Problem{File: c.File, Line: c.lines[path], Text: fmt.Sprintf("%s: there is no projector %q%s", path, name, hint)})
	}
	return unknown
}
