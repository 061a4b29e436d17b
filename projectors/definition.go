package projectors

import (
	"context"
	"fmt"
	"sync"

	"github.com/lanternist/lanternist/views"
)

// Definition is a view by one definition of it, and the home of its documents by the same: what the view is made of may
// change while the runner and what the sink holds go on (Redefine).
type Definition struct {
	View *views.View
	// Store knows, besides what the sink holds, how a generation of this definition is made. Stores of several definitions of
	// one view are homes of the same generations, and know of each other what a sink wants to be remembered
	// (search.Store.Redefined, cache.Store.Redefined).
	Store Store
}

// definition is a Definition with what is asked of it for every event.
type definition struct {
	Definition
	hash   string
	tables map[uint32]bool // that the view depends on
	// composers are those that no worker uses. There are many workers, and most have nothing to do most of the time: the garbage
	// collector may have the memory of theirs.
	composers sync.Pool
}

// composer is one that nobody uses. giveBack should follow.
func (d *definition) composer() *views.Composer {
	if c, ok := d.composers.Get().(*views.Composer); ok {
		return c
	}
	return d.View.Composer()
}

// keepComposer is up to how many bytes of documents, that it had composed at once, a composer is used again.
const keepComposer = 1 << 20

// giveBack takes a composer that had composed so many bytes at once.
func (d *definition) giveBack(c *views.Composer, bytes int) {
	if bytes <= keepComposer {
		c.Reset()
		d.composers.Put(c)
	}
}

func define(d Definition) *definition {
	made := &definition{Definition: d, hash: d.View.Hash(), tables: map[uint32]bool{}}
	for _, oid := range d.View.Tables() {
		made.tables[oid] = true
	}
	return made
}

// compiled remembers the definitions of generations by their hash: Status asks again and again which of them can be gone
// back to. It is safe for concurrent use; its zero value knows none.
type compiled struct {
	mu     sync.Mutex
	byHash map[string]compilation
}

type compilation struct {
	def     *definition
	refusal string // why there is none
}

func (c *compiled) get(hash string) (compilation, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	found, ok := c.byHash[hash]
	return found, ok
}

func (c *compiled) put(hash string, found compilation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byHash == nil {
		c.byHash = map[string]compilation{}
	}
	c.byHash[hash] = found
}

// Definition is the one that the documents are of that readers see. Before the sink was asked it is the configured one.
func (r *Runner) Definition() Definition { return r.served.Load().Definition }

// definitionOf is the definition that a generation was built by, compiled from what the generation says of it. The error says
// why there is none.
func (r *Runner) definitionOf(ctx context.Context, info Info) (*definition, error) {
	for _, def := range []*definition{r.wanted.Load(), r.served.Load()} {
		if def.hash == info.Hash {
			return def, nil
		}
	}
	def, err := r.compile(ctx, info)
	if err != nil {
		if ctx.Err() == nil {
			r.compiled.put(info.Hash, compilation{refusal: err.Error()})
		}
		return nil, err
	}
	r.compiled.put(info.Hash, compilation{def: def})
	return def, nil
}

func (r *Runner) compile(ctx context.Context, info Info) (*definition, error) {
	switch {
	case info.Definition == "":
		return nil, errUnknownDefinition
	case r.cfg.Compile == nil:
		return nil, fmt.Errorf("another definition of the view built it")
	}
	made, err := r.cfg.Compile(ctx, info.Definition)
	if err != nil {
		return nil, fmt.Errorf("the definition that built it cannot be compiled any more: %w", err)
	}
	def := define(made)
	if def.hash != info.Hash {
		return nil, fmt.Errorf("the definition that built it means something else today: a table that it uses has changed, or Lanternist has")
	}
	return def, nil
}

// knownDefinition is definitionOf as far as it is known without asking anyone. With neither a definition nor a reason it is not
// known yet.
func (r *Runner) knownDefinition(info Info) compilation {
	for _, def := range []*definition{r.wanted.Load(), r.served.Load()} {
		if def.hash == info.Hash {
			return compilation{def: def}
		}
	}
	found, _ := r.compiled.get(info.Hash)
	return found
}

// serve notes by which definition readers see documents from now on, and tells Config.Serving.
func (r *Runner) serve(def *definition) {
	was := r.served.Swap(def)
	r.compiled.put(was.hash, compilation{def: was})
	r.compiled.put(def.hash, compilation{def: def})
	if was.hash != def.hash && r.cfg.Serving != nil {
		r.cfg.Serving(def.Definition)
	}
}
