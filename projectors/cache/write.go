package cache

import (
	"context"
	"errors"
	"time"
	"unsafe"

	"github.com/redis/go-redis/v9"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/projectors"
	"github.com/lanternist/lanternist/views"
)

// Write puts and deletes documents. When an error that waiting may mend comes after some of them were written, it is that of the
// others: else a Redis so slow that no call of all of them comes to its end would be sent the same documents for ever.
func (g *generation) Write(ctx context.Context, version event.Offset, docs []views.Document) ([]projectors.Failure, error) {
	for {
		highest := g.highest.Load()
		if highest >= uint64(version) || g.highest.CompareAndSwap(highest, uint64(version)) {
			break
		}
	}
	done, err := g.write(ctx, version, docs)
	err = g.store.classify("write documents", err)
	if err == nil || done == 0 || ctx.Err() != nil || projectors.Class(err) != projectors.Transient || errors.Is(err, projectors.ErrLost) {
		return nil, err
	}
	var failures []projectors.Failure
	for i := done; i < len(docs); i++ {
		failures = append(failures, projectors.Failure{Index: i, Err: err})
	}
	return failures, nil
}

// write writes documents in their order and says how many were.
func (g *generation) write(ctx context.Context, version event.Offset, docs []views.Document) (done int, err error) {
	for i := range docs {
		if docs[i].Body != nil && len(docs[i].Lookups) != len(g.record.Lookups) {
			return 0, projectors.Fatalf("rebuild the view", "document %s has %d lookups, generation %d was created with %d",
				docs[i].ID, len(docs[i].Lookups), g.number, len(g.record.Lookups))
		}
	}
	for done < len(docs) {
		if g.lost.Load() {
			return done, g.lose()
		}
		n, err := g.writeSome(ctx, version, docs[done:])
		if err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}

// writeSome writes as many documents as are sent together now.
func (g *generation) writeSome(ctx context.Context, version event.Offset, docs []views.Document) (n int, err error) {
	cfg, room := &g.store.client.cfg, g.store.client.size
	seen, most := g.seen.Load(), room.Bytes()
	calls, sent := make([]call, 0, cfg.PipelineSize), 0
	for n < len(docs) && len(calls) < cfg.PipelineSize && (sent == 0 || sent < most) {
		size := batchLen(docs[n:], cfg.BatchDocuments, min(cfg.BatchBytes, most))
		for i := range docs[n : n+size] {
			sent += sizeValue(&docs[n+i])
		}
		calls = append(calls, g.call(version, seen, docs[n:n+size]))
		n += size
	}
	began := time.Now()
	err = g.send(ctx, seen, calls)
	switch {
	case err == nil:
		room.Accepted(sent, time.Since(began))
	case ctx.Err() == nil && (!answered(err) || redis.HasErrorPrefix(err, "BUSY")):
		room.Refused(sent)
		g.store.client.pushbacks.Add(1)
	}
	return n, err
}

// batchLen is how many of docs, at least one, go into one call of the script.
func batchLen(docs []views.Document, most, mostBytes int) int {
	bytes := 0
	for i := range docs {
		if bytes += sizeValue(&docs[i]); i == most || (i > 0 && bytes > mostBytes) {
			return i
		}
	}
	return len(docs)
}

// call is one call of the write script.
type call struct {
	keys []string
	args []any
}

// call lays out keys and values in one piece of memory.
func (g *generation) call(version event.Offset, seen int64, docs []views.Document) call {
	size := 0
	for i := range docs {
		size += len(g.keys.documents) + len(docs[i].ID) + sizeValue(&docs[i])
	}
	buf := make([]byte, 0, size)
	ends := make([]int, 0, 2*len(docs))
	for i := range docs {
		buf = append(append(buf, g.keys.documents...), docs[i].ID...)
		ends = append(ends, len(buf))
		buf = appendValue(buf, version, &docs[i])
		ends = append(ends, len(buf))
	}
	text, from := unsafe.String(unsafe.SliceData(buf), len(buf)), 0 // buf is not written again
	c := call{keys: make([]string, 2, 2+len(docs)), args: make([]any, 0, 8+len(g.record.Lookups)+len(docs))}
	c.keys[0], c.keys[1] = g.keys.identity, g.keys.writes
	c.args = append(c.args, g.record.Identity, seen, string(appendVersion(nil, version)),
		g.store.ttl.Milliseconds(), g.store.client.cfg.TombstoneTTL.Milliseconds(),
		g.keys.documents, g.keys.lookups, len(g.record.Lookups))
	for _, l := range g.record.Lookups {
		c.args = append(c.args, l)
	}
	for i := range docs {
		key, value := ends[2*i], ends[2*i+1]
		c.keys = append(c.keys, text[from:key])
		c.args = append(c.args, text[key:value])
		from = value
	}
	return c
}

// send sends the calls together and reads the counts of writes that Redis answers. When Redis does not have the script, it
// is sent, and the calls are repeated: those that were applied change nothing the second time.
func (g *generation) send(ctx context.Context, seen int64, calls []call) error {
	answers, err := g.pipeline(ctx, calls)
	if isNoScript(err) {
		if err := writeScript.Load(ctx, g.store.client.redis).Err(); err != nil {
			return err
		}
		answers, err = g.pipeline(ctx, calls)
	}
	if err != nil {
		return err
	}
	for _, answer := range answers {
		writes, err := answer.Int64()
		if err != nil {
			return err
		}
		if writes == scriptLost || writes <= seen {
			return g.lose()
		}
		g.saw(writes)
	}
	return nil
}

func (g *generation) pipeline(ctx context.Context, calls []call) ([]*redis.Cmd, error) {
	answers := make([]*redis.Cmd, len(calls))
	p := g.store.client.redis.Pipeline()
	for i, c := range calls {
		answers[i] = p.EvalSha(ctx, writeScript.Hash(), c.keys, c.args...)
	}
	_, err := p.Exec(ctx)
	return answers, err
}
