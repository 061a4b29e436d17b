package main

import (
	"github.com/lanternist/lanternist/backoff"
	"github.com/lanternist/lanternist/config"
	"github.com/lanternist/lanternist/projectors"
)

// sharedSink is what all who use one sink in this process have in common.
type sharedSink struct {
	name       string
	congestion projectors.Congestion
	circuit    *projectors.Circuit
	memory     *projectors.Memory
}

// sharedSinks are those of both sinks, whether they are configured or not.
type sharedSinks struct{ search, cache sharedSink }

// newSharedSinks divides the memory among the sinks that there are: what waits for one is never in the way of another.
func newSharedSinks(c *config.Config) *sharedSinks {
	sinks := 0
	for _, configured := range []bool{c.Elasticsearch != nil, c.Redis != nil} {
		if configured {
			sinks++
		}
	}
	share := func(name string) sharedSink {
		return sharedSink{
			name:    name,
			circuit: projectors.NewCircuit(projectors.CircuitConfig{Pauses: backoff.Config{Max: c.Projectors.BackoffMax.D()}}),
			memory:  projectors.NewMemory(int64(c.Projectors.Memory) / int64(max(1, sinks))),
		}
	}
	return &sharedSinks{search: share("search"), cache: share("cache")}
}

// of is what the projectors of a sink share.
func (s *sharedSinks) of(sink string) *sharedSink {
	if sink == s.search.name {
		return &s.search
	}
	return &s.cache
}

func (s *sharedSink) status(writeBytes int) projectors.SinkStatus {
	return projectors.SinkStatus{Sink: s.name, Circuit: s.circuit.Status(), Memory: s.memory.Status(), WriteBytes: writeBytes}
}

// sinkStatuses are those of the sinks that are configured.
func (d *deployment) sinkStatuses() []projectors.SinkStatus {
	var all []projectors.SinkStatus
	if d.cache != nil {
		all = append(all, d.shared.cache.status(d.cache.WriteBytes()))
	}
	if d.search != nil {
		all = append(all, d.shared.search.status(d.search.WriteBytes()))
	}
	return all
}

// withPolicy is a projector's configuration with what the file says about its failures, and what it shares with the others of
// its sink.
func (d *deployment) withPolicy(c projectors.Config, projector, sink string) projectors.Config {
	policy, shared := d.cfg.Projectors.Policy(projector), d.shared.of(sink)
	c.MaxAttempts, c.RebuildRate = policy.MaxAttempts, policy.RebuildRate
	c.Backoff = backoff.Config{Min: policy.BackoffFirst.D(), Max: policy.BackoffMax.D()}
	c.StopOnPermanent, c.RetryFatal = policy.OnPermanent == config.Stop, policy.OnFatal == config.Retry
	c.Congestion, c.Circuit, c.Memory = &shared.congestion, shared.circuit, shared.memory
	return c
}
