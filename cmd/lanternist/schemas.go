package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/lanternist/lanternist/config"
	"github.com/lanternist/lanternist/control"
	"github.com/lanternist/lanternist/httpapi"
	"github.com/lanternist/lanternist/ingest"
	"github.com/lanternist/lanternist/row"
	"github.com/lanternist/lanternist/schemas"
)

type schemasCmd struct {
	List schemasListCmd `cmd:"" help:"List the captured tables and what waits for them."`
	Show schemasShowCmd `cmd:"" help:"Show every version of a table's definition."`
	Ack  schemasAckCmd  `cmd:"" help:"Have the views of a changed table go on by its newest definition."`
}

type schemasListCmd struct {
	configFlag
	JSON bool `help:"Print as JSON."`
}

type schemasShowCmd struct {
	configFlag
	Table string `arg:"" help:"public.orders, or orders."`
	JSON  bool   `help:"Print as JSON."`
}

type schemasAckCmd struct {
	configFlag
	Table string `arg:"" help:"public.orders, or orders."`
}

// Run lists the tables: of the running daemon, or else from its folder.
func (c *schemasListCmd) Run(a *app) error {
	tables, err := tableSchemas(a.ctx, &c.configFlag)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(a.stdout, tables)
	}
	rows := make([][]string, len(tables))
	for i, t := range tables {
		state := "followed"
		switch {
		case t.Gone:
			state = "gone"
		case t.Problem != "":
			state = t.Problem
		}
		rows[i] = []string{t.Table, strconv.Itoa(t.Version), strconv.Itoa(len(t.Versions)), strconv.Itoa(t.Columns), cmp.Or(strings.Join(t.Paused, ", "), "-"), state}
	}
	return table(a.stdout, []string{"TABLE", "VERSION", "DEFINITIONS", "COLUMNS", "PAUSED", "STATE"}, rows)
}

// Run shows a table.
func (c *schemasShowCmd) Run(a *app) error {
	tables, err := tableSchemas(a.ctx, &c.configFlag)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(tables, func(t httpapi.TableSchema) bool { return t.Table == c.Table || t.Table == "public."+c.Table })
	if i < 0 {
		return badInput(fmt.Errorf("table %q is not captured; see: lanternist schemas list", c.Table))
	}
	t := tables[i]
	if c.JSON {
		return printJSON(a.stdout, t)
	}
	for _, v := range t.Versions {
		fmt.Fprintf(a.stdout, "%s version %d (definition %d), key %s\n", v.Table, v.Version, v.ID, strings.Join(v.Key, ", "))
		for _, change := range v.Changes {
			fmt.Fprintf(a.stdout, "  %s\n", change)
		}
	}
	if n := len(t.Versions); n > 0 {
		rows := [][]string{}
		for _, col := range t.Versions[n-1].Columns {
			null := "may be null"
			if col.NotNull {
				null = ""
			}
			rows = append(rows, []string{col.Name, col.Type, null})
		}
		fmt.Fprintln(a.stdout)
		if err := table(a.stdout, []string{"COLUMN", "TYPE", ""}, rows); err != nil {
			return err
		}
	}
	if t.Problem != "" {
		fmt.Fprintf(a.stdout, "\nNot followed: %s\n", t.Problem)
	}
	for _, p := range t.Paused {
		fmt.Fprintf(a.stdout, "\n%s is paused; see: lanternist status\n", p)
	}
	return nil
}

// Run acknowledges a change, which the running daemon carries out.
func (c *schemasAckCmd) Run(a *app) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	client, err := newClient(cfg)
	if err != nil {
		return err
	}
	var answer struct {
		Projectors []string `json:"projectors"`
	}
	if err := client.post(a.ctx, "/v1/schemas/"+url.PathEscape(c.Table)+"/ack", &answer); err != nil {
		return err
	}
	if len(answer.Projectors) == 0 {
		fmt.Fprintln(a.stdout, "Nothing was paused because of this table.")
		return nil
	}
	fmt.Fprintf(a.stdout, "Acknowledged. Going on: %s\n", strings.Join(answer.Projectors, ", "))
	return nil
}

// tableSchemas asks the running daemon, or looks into its folder.
func tableSchemas(ctx context.Context, flag *configFlag) ([]httpapi.TableSchema, error) {
	cfg, err := flag.load()
	if err != nil {
		return nil, err
	}
	client, err := newClient(cfg)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Tables []httpapi.TableSchema `json:"tables"`
	}
	err = client.get(ctx, "/v1/schemas", nil, &answer)
	if err == nil || !errors.Is(err, errNoDaemon) {
		return answer.Tables, err
	}
	return storedSchemas(ctx, cfg)
}

// storedSchemas reads the tables from the control store, as they were when the daemon was last there.
func storedSchemas(ctx context.Context, cfg *config.Config) (tables []httpapi.TableSchema, err error) {
	store, err := openControl(ctx, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	return schemasIn(ctx, store)
}

func schemasIn(ctx context.Context, store control.Store) ([]httpapi.TableSchema, error) {
	registry, err := schemas.Open(ctx, store)
	if err != nil {
		return nil, err
	}
	since, err := ingest.CapturedSince(ctx, store)
	if err != nil {
		return nil, err
	}
	tables := []httpapi.TableSchema{}
	for _, s := range registry.Tables() {
		if _, captured := since[s.OID]; captured {
			tables = append(tables, schemaOf(registry, s))
		}
	}
	return tables, nil
}

// schemaOf is a table with its versions.
func schemaOf(registry *schemas.Registry, s *row.Schema) httpapi.TableSchema {
	t := httpapi.TableSchema{Table: s.QualifiedName(), OID: s.OID, Version: s.Version, Columns: len(s.Columns), Versions: []httpapi.SchemaVersion{}}
	var before *row.Schema
	for _, def := range registry.Versions(s.OID) {
		v := httpapi.SchemaVersion{ID: def.ID, Version: def.Version, Table: def.QualifiedName(), Columns: []httpapi.SchemaColumn{}, Key: []string{}}
		for _, c := range def.Columns {
			v.Columns = append(v.Columns, httpapi.SchemaColumn{Name: c.Name, Type: c.Type.Name, NotNull: c.NotNull})
		}
		for _, i := range def.Key {
			v.Key = append(v.Key, def.Columns[i].Name)
		}
		if before != nil {
			v.Changes = schemas.Diff(before, def)
		}
		before = def
		t.Versions = append(t.Versions, v)
	}
	return t
}

// TableSchemas implements httpapi.Schemas.
func (n *daemon) TableSchemas() []httpapi.TableSchema {
	e := &n.evolution
	tables := []httpapi.TableSchema{}
	for _, s := range n.registry.Tables() {
		e.mu.Lock()
		now, known := e.latest[s.OID]
		problem := e.problems[s.QualifiedName()]
		e.mu.Unlock()
		if !known {
			continue
		}
		t := schemaOf(n.registry, s)
		t.Gone, t.Problem = now == nil, problem
		for _, r := range n.runners.list() {
			if len(r.Paused()) > 0 && slices.ContainsFunc(r.view().Schemas(), func(used *row.Schema) bool { return used.OID == s.OID }) {
				t.Paused = append(t.Paused, r.Name())
			}
		}
		tables = append(tables, t)
	}
	return tables
}
