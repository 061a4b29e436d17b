package main

import (
	"context"
	"slices"
)

// The services whose raw writes are the limits of the workloads that end there.
const (
	sinkRedis         = "redis"
	sinkElasticsearch = "elasticsearch"
)

// workload is one thing that is measured.
type workload struct {
	name  string
	needs []string // sinks whose services it uses
	// prepare does what has to be there before the backlog is made, such as slots and loaded tables.
	prepare func(context.Context, *round) error
	// measure does the work and returns a sample for each line that it adds to the result.
	measure func(context.Context, *round) ([]sample, error)
}

// workloads are in the order in which they run: limits first, which also warms the services up.
var workloads = []workload{
	{name: lineReceive, prepare: prepareReceive, measure: measureReceive},
	{name: "raw-redis", needs: []string{sinkRedis}, measure: measureRawRedis},
	{name: "raw-bulk", needs: []string{sinkElasticsearch}, measure: measureRawBulk},
	{name: "load", prepare: prepareLoad, measure: measureLoad},
	{name: "load-redis", needs: []string{sinkRedis}, prepare: prepareLoad, measure: measureLoadSink(sinkRedis)},
	{name: "load-elasticsearch", needs: []string{sinkElasticsearch}, prepare: prepareLoad, measure: measureLoadSink(sinkElasticsearch)},
	{name: "journal", prepare: prepareJournal, measure: measureJournal},
	{name: "redis", needs: []string{sinkRedis}, prepare: prepareDaemon(sinkRedis), measure: measureDaemon(sinkRedis)},
	{name: "elasticsearch", needs: []string{sinkElasticsearch}, prepare: prepareDaemon(sinkElasticsearch), measure: measureDaemon(sinkElasticsearch)},
}

func workloadNames() []string {
	names := make([]string, len(workloads))
	for i, w := range workloads {
		names[i] = w.name
	}
	return names
}

// chosen are the workloads that the options ask for.
func (o options) chosen() []workload {
	if len(o.only) == 0 {
		return workloads
	}
	return slices.DeleteFunc(slices.Clone(workloads), func(w workload) bool { return !slices.Contains(o.only, w.name) })
}

// needs says whether a chosen workload uses a sink.
func (o options) needs(sink string) bool {
	return slices.ContainsFunc(o.chosen(), func(w workload) bool { return slices.Contains(w.needs, sink) })
}
