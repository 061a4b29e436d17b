package main

import (
	"slices"
	"sync"

	"github.com/lanternist/lanternist/cdc"
	"github.com/lanternist/lanternist/row"
)

// catalog has the registered definitions of the captured tables. It is safe for concurrent use.
type catalog struct {
	mu     sync.Mutex
	tables []*row.Schema
}

// set replaces all.
func (c *catalog) set(tables []*row.Schema) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tables = slices.Clone(tables)
}

// put adds definitions, in place of older ones of the same tables.
func (c *catalog) put(tables []*row.Schema) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range tables {
		c.tables = append(slices.DeleteFunc(c.tables, func(have *row.Schema) bool { return have.OID == t.OID }), t)
	}
}

// drop forgets tables.
func (c *catalog) drop(oids []uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tables = slices.DeleteFunc(c.tables, func(s *row.Schema) bool { return slices.Contains(oids, s.OID) })
}

// keep forgets the tables that the names do not mean.
func (c *catalog) keep(names []string) {
	tables := c.of(names)
	c.set(tables)
}

// all lists the tables.
func (c *catalog) all() []*row.Schema {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.tables)
}

// of lists the tables that names mean, in the form of cdc.Config.Tables.
func (c *catalog) of(names []string) []*row.Schema {
	captures, err := cdc.Captures(names)
	if err != nil {
		return nil // the configuration was checked
	}
	return slices.DeleteFunc(c.all(), func(s *row.Schema) bool { return !captures(s) })
}
