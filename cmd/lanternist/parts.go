package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/lanternist/lanternist/cdc"
	"github.com/lanternist/lanternist/config"
	"github.com/lanternist/lanternist/control"
	"github.com/lanternist/lanternist/internal/disk"
	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/journal/jetstream"
	"github.com/lanternist/lanternist/journal/segments"
	"github.com/lanternist/lanternist/projectors"
	"github.com/lanternist/lanternist/projectors/cache"
	"github.com/lanternist/lanternist/projectors/search"
	"github.com/lanternist/lanternist/row"
	"github.com/lanternist/lanternist/views"
)

// The functions of this file turn the configuration into the configurations of the parts.

func sourceConfig(c *config.Config) cdc.Config {
	s := cdc.DefaultConfig()
	s.URL = c.Source.URL.Reveal()
	s.Slot = c.Source.Slot
	s.Publication = c.Source.Publication
	s.Tables = c.Source.Tables
	s.CreateSlot, s.CreatePublication = *c.Source.Create, *c.Source.Create
	s.BatchBytes = int(c.Source.BatchBytes)
	return s
}

// searchClient makes the client of the cluster, if there is one. circuit may be nil.
func searchClient(c *config.Config, circuit *projectors.Circuit) (*search.Client, error) {
	e := c.Elasticsearch
	if e == nil {
		return nil, nil
	}
	return search.NewClient(search.Config{
		URLs:     strings.Split(e.URL.Reveal(), ","),
		Username: e.Username, Password: e.Password.Reveal(), APIKey: e.APIKey.Reveal(),
		CAFile: c.Path(e.CAFile), Fingerprint: e.Fingerprint, Prefix: e.Prefix, BulkBytes: int(e.BulkBytes),
		BulkTimeout: e.BulkTimeout.D(), Circuit: circuit,
	})
}

// cacheClient makes the client of the Redis, if there is one. circuit may be nil.
func cacheClient(c *config.Config, circuit *projectors.Circuit, log *slog.Logger) (*cache.Client, error) {
	r := c.Redis
	if r == nil {
		return nil, nil
	}
	return cache.NewClient(cache.Config{
		URL: r.URL.Reveal(), TLS: cache.TLS{CAFile: c.Path(r.CAFile)}, Prefix: *r.Prefix, Timeout: r.Timeout.D(), Circuit: circuit,
	}, log)
}

// orNone is a setting in which 0 is none as the projectors take it, where 0 stands for the default.
func orNone(setting *int) int {
	if *setting == 0 {
		return -1
	}
	return *setting
}

// openControl opens where small durable state is.
func openControl(ctx context.Context, c *config.Config, log *slog.Logger) (control.Store, error) {
	return openControlOn(ctx, nil, c, log)
}

// openControlOn is openControl on a disk that is watched.
func openControlOn(ctx context.Context, d *disk.Disk, c *config.Config, log *slog.Logger) (control.Store, error) {
	if url := c.Journal.URL.Reveal(); url != "" {
		return control.OpenJetStream(ctx, url, c.Journal.Stream, c.Journal.Replicas, log)
	}
	return control.OpenPebbleOn(d, c.Path(c.Control.Dir), log)
}

// openEngine opens where the journal's entries are.
func openEngine(ctx context.Context, c *config.Config, log *slog.Logger) (journal.Log, error) {
	return openEngineOn(ctx, nil, c, log)
}

// openEngineOn is openEngine on a disk that is watched.
func openEngineOn(ctx context.Context, d *disk.Disk, c *config.Config, log *slog.Logger) (engine journal.Log, err error) {
	if url := c.Journal.URL.Reveal(); url != "" {
		engine, err = jetstream.Open(ctx, url, jetstream.Config{Stream: c.Journal.Stream, Replicas: c.Journal.Replicas}, log)
	} else {
		engine, err = segments.Open(c.Path(c.Journal.Dir), segments.Config{Disk: d}, log)
	}
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	return engine, nil
}

// parseViews reads all view files. Its error holds every problem of every file.
func parseViews(c *config.Config) ([]*views.Definition, error) {
	files, err := c.ViewFiles()
	if err != nil {
		return nil, err
	}
	var defs []*views.Definition
	var problems []string
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read view: %w", err)
		}
		some, err := views.Parse(file, data)
		if err != nil {
			problems = append(problems, err.Error())
		}
		defs = append(defs, some...)
	}
	if len(problems) > 0 {
		return defs, fmt.Errorf("%s", strings.Join(problems, "\n"))
	}
	return defs, nil
}

// compileViews checks the definitions against the tables, and that each finds its sink in the configuration.
func compileViews(c *config.Config, defs []*views.Definition, catalog []*row.Schema) ([]*views.View, error) {
	compiled, err := views.Compile(defs, catalog)
	if err != nil {
		return nil, err
	}
	var problems []string
	for _, v := range compiled {
		if v.Search() != nil && c.Elasticsearch == nil {
			problems = append(problems, fmt.Sprintf("%s: view %s has a search section, but there is no elasticsearch section; add: elasticsearch: {url: http://localhost:9200}", c.File, v.Name()))
		}
		if v.Cache() != nil && c.Redis == nil {
			problems = append(problems, fmt.Sprintf("%s: view %s has a cache section, but there is no redis section; add: redis: {url: redis://localhost:6379}", c.File, v.Name()))
		}
	}
	if len(problems) > 0 {
		return nil, fmt.Errorf("%s", strings.Join(problems, "\n"))
	}
	return compiled, nil
}

// checkOverrides refuses overrides of projectors that there are not.
func checkOverrides(c *config.Config, compiled []*views.View) error {
	var names []string
	for _, v := range compiled {
		if v.Search() != nil {
			names = append(names, v.Name()+".search")
		}
		if v.Cache() != nil {
			names = append(names, v.Name()+".cache")
		}
	}
	if unknown := c.UnknownProjectors(names); len(unknown) > 0 {
		return unknown
	}
	return nil
}
