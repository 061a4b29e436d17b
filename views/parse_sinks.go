package views

import (
	"encoding/json"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"
)

// search reads the search section. Empty means defaults.
func (p *parser) search(n *yaml.Node) *searchDef {
	s := &searchDef{}
	if isNull(n) {
		return s
	}
	p.mapping(n, "search", []string{"settings", "mappings", "analysis", "dynamic"}, func(key, value *yaml.Node) {
		switch key.Value {
		case "settings":
			s.options.Settings = p.raw(value, "settings")
		case "mappings":
			s.options.Mappings = p.raw(value, "mappings")
		case "analysis":
			s.options.Analysis = p.raw(value, "analysis")
		case "dynamic":
			known := []string{"true", "false", "strict", "runtime"}
			s.options.Dynamic = p.text(value, "dynamic").text
			if s.options.Dynamic != "" && !slices.Contains(known, s.options.Dynamic) {
				p.fail(value, "dynamic must be true, false, strict or runtime%s", meant(s.options.Dynamic, known))
			}
		}
	})
	return s
}

// raw reads a mapping that is handed on as JSON.
func (p *parser) raw(n *yaml.Node, what string) map[string]any {
	if isNull(n) {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		p.fail(n, "%s must be a mapping", what)
		return nil
	}
	m := map[string]any{}
	if err := n.Decode(&m); err != nil {
		p.fail(n, "%s: %v", what, err)
		return nil
	}
	if _, err := json.Marshal(m); err != nil {
		p.fail(n, "%s cannot be written as JSON: keys must be words", what)
		return nil
	}
	return m
}

// cache reads the cache section. Empty means defaults.
func (p *parser) cache(n *yaml.Node) *cacheDef {
	c := &cacheDef{}
	if isNull(n) {
		return c
	}
	p.mapping(n, "cache", []string{"ttl", "lookups"}, func(key, value *yaml.Node) {
		switch key.Value {
		case "ttl":
			ttl, err := time.ParseDuration(value.Value)
			if value.Kind != yaml.ScalarNode || err != nil || ttl < time.Second {
				p.fail(value, "ttl must be a duration of at least 1s, such as 24h")
				return
			}
			c.ttl = ttl
		case "lookups":
			c.lookups = p.lookups(value)
		}
	})
	return c
}

// lookups reads a list whose items are a field, or a list of fields that are looked up together.
func (p *parser) lookups(n *yaml.Node) [][]word {
	if n.Kind != yaml.SequenceNode {
		p.fail(n, "lookups must be a list, such as [customer_id, [status, country]]")
		return nil
	}
	var list [][]word
	for _, item := range n.Content {
		list = append(list, p.words(resolve(item), "lookups"))
	}
	return list
}
