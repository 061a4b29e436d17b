package search

import (
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/lanternist/lanternist/views"
)

// indexDefinition is what an index of the view is created with.
type indexDefinition struct {
	properties      properties
	dynamic         string
	settings        map[string]any // flat, "index." before each, without the refresh interval
	analysis        map[string]any
	refreshInterval any // in force once the generation is live; nil is Elasticsearch's default
}

// totalFieldsDefault is index.mapping.total_fields.limit.
const totalFieldsDefault = 1000

func defineIndex(fields []views.Field, options *views.SearchOptions, gcDeletes time.Duration) indexDefinition {
	d := indexDefinition{
		properties: overlay(deriveProperties(fields, false), options.Mappings),
		dynamic:    options.Dynamic,
		settings:   map[string]any{"index.gc_deletes": fmt.Sprintf("%ds", max(int64(gcDeletes.Seconds()), 1))},
		analysis:   options.Analysis,
	}
	if d.dynamic == "" {
		d.dynamic = "false" // the mapping is complete; what it leaves out is kept and not indexed
	}
	d.properties[checkpointField] = map[string]any{"type": "object", "enabled": false}
	if n := countProperties(d.properties); n*5/4 > totalFieldsDefault {
		d.settings["index.mapping.total_fields.limit"] = n * 3 / 2
	}
	own := map[string]any{}
	flatten(own, "index.", options.Settings)
	d.refreshInterval = own["index.refresh_interval"]
	delete(own, "index.refresh_interval")
	_, replicas := own["index.number_of_replicas"]
	_, expand := own["index.auto_expand_replicas"]
	if !replicas && !expand {
		d.settings["index.auto_expand_replicas"] = "0-1" // one copy more, as soon as there is a node for it
	}
	maps.Copy(d.settings, own)
	return d
}

// flatten writes nested settings as "index.a.b" names.
func flatten(dst map[string]any, prefix string, settings map[string]any) {
	for key, value := range settings {
		key = prefix + strings.TrimPrefix(key, "index.")
		if prefix == "index." && key == "index.index" {
			key = "index"
		}
		if below, ok := value.(map[string]any); ok {
			flatten(dst, key+".", below)
			continue
		}
		dst[key] = value
	}
}

// replicaSettings say how many copies of an index there are.
var replicaSettings = []string{"index.number_of_replicas", "index.auto_expand_replicas"}

// filling is request for an index that is to be filled: it has no copies, which would index every document again. Once it is
// filled they are made from its files.
func (d indexDefinition) filling(writer string, about meta) map[string]any {
	body := d.request(writer, about)
	settings := body["settings"].(map[string]any)
	settings["index.number_of_replicas"], settings["index.auto_expand_replicas"] = 0, "false"
	return body
}

// live are the settings that make an index that was filled a live one.
func (d indexDefinition) live() map[string]any {
	settings := map[string]any{"index.refresh_interval": d.refreshInterval}
	for _, name := range replicaSettings {
		if value, ok := d.settings[name]; ok {
			settings[name] = value
		}
	}
	return settings
}

// request is the body of the request that creates the index. It refreshes only on demand until it is promoted.
func (d indexDefinition) request(writer string, about meta) map[string]any {
	settings := maps.Clone(d.settings)
	settings["index.refresh_interval"] = "-1"
	if len(d.analysis) > 0 {
		settings["analysis"] = d.analysis
	}
	return map[string]any{
		"settings": settings,
		"aliases":  map[string]any{writer: map[string]any{"is_hidden": true, "filter": hideCheckpoint()}},
		"mappings": map[string]any{
			"dynamic":    d.dynamic,
			"_meta":      map[string]any{"lanternist": about},
			"properties": d.properties,
		},
	}
}
