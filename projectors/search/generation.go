package search

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/projectors"
	"github.com/lanternist/lanternist/views"
)

// Generation is one index. It implements projectors.Generation.
type Generation struct {
	store *Store
	names generationNames
}

// checkpointID is the id of the checkpoint document. No document of a view has it: Postgres text has no zero byte.
const checkpointID = "\x00checkpoint"

// checkpointField holds the checkpoint, as an object that is kept and not indexed.
const checkpointField = "lanternist_checkpoint"

// hideCheckpoint is the filter of the aliases.
func hideCheckpoint() map[string]any {
	return map[string]any{"bool": map[string]any{"must_not": map[string]any{"ids": map[string]any{"values": []string{checkpointID}}}}}
}

// storedCheckpoint is the checkpoint document.
type storedCheckpoint struct {
	Checkpoint *projectors.Checkpoint `json:"lanternist_checkpoint"`
}

// Checkpoint implements projectors.Generation. It reads what was saved last, refreshed or not.
func (g *Generation) Checkpoint(ctx context.Context) (projectors.Checkpoint, bool, error) {
	doc, err := g.store.client.get(ctx, g.names.writer, checkpointID)
	if err != nil {
		return projectors.Checkpoint{}, false, fmt.Errorf("read checkpoint of %s: %w", g.names.index, classify(err))
	}
	if !doc.Found {
		return projectors.Checkpoint{}, false, nil
	}
	var stored storedCheckpoint
	if err := json.Unmarshal(doc.Source, &stored); err != nil || stored.Checkpoint == nil {
		return projectors.Checkpoint{}, false, projectors.Fatalf("rebuild the view",
			"checkpoint of %s cannot be read: %.200s", g.names.index, doc.Source)
	}
	return *stored.Checkpoint, true, nil
}

// SaveCheckpoint implements projectors.Generation. Like a document, a checkpoint with a smaller offset than the one saved
// changes nothing.
func (g *Generation) SaveCheckpoint(ctx context.Context, cp projectors.Checkpoint) error {
	body, err := json.Marshal(storedCheckpoint{Checkpoint: &cp})
	if err != nil {
		return fmt.Errorf("encode checkpoint: %w", err)
	}
	failures, err := g.Write(ctx, cp.Offset, []views.Document{{ID: checkpointID, Body: body}})
	if err == nil && len(failures) > 0 {
		err = failures[0].Err
	}
	if err != nil {
		return fmt.Errorf("save checkpoint of %s: %w", g.names.index, err)
	}
	return nil
}

// stored is a document as a get by id finds it.
type stored struct {
	ID      string          `json:"_id"`
	Index   string          `json:"_index"`
	Version event.Offset    `json:"_version"`
	Found   bool            `json:"found"`
	Source  json.RawMessage `json:"_source"`
	Error   *cause          `json:"error"`
}

// get reads one document by id, refreshed or not. The id is in the body, where no proxy unescapes it.
func (c *Client) get(ctx context.Context, alias, id string) (stored, error) {
	var answer struct {
		Docs []stored `json:"docs"`
	}
	body := map[string]any{"ids": []string{id}}
	if err := c.do(ctx, call{method: http.MethodPost, path: "/" + alias + "/_mget", body: body}, &answer); err != nil {
		return stored{}, err
	}
	if len(answer.Docs) != 1 {
		return stored{}, fmt.Errorf("answer has %d documents, want 1", len(answer.Docs))
	}
	doc := answer.Docs[0]
	if doc.Error != nil {
		status := http.StatusServiceUnavailable
		if doc.Error.Type == "index_not_found_exception" {
			status = http.StatusNotFound
		}
		return stored{}, &statusError{status: status, kind: doc.Error.Type, reason: doc.Error.text()}
	}
	return doc, nil
}
