package search

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/lanternist/lanternist/projectors"
)

// bulkFilter keeps of a bulk answer what is read here.
const bulkFilter = "errors,items.*.status,items.*.error.type,items.*.error.reason,items.*.error.caused_by"

// bulkItem is the outcome of one action.
type bulkItem struct {
	Status int    `json:"status"`
	Error  *cause `json:"error"`
}

// outcome is what a bulk request came to.
type outcome struct {
	failures []projectors.Failure
	newer    []int // documents that the index holds in a newer version
	again    []int // documents that were not taken for want of room
	refused  error // why, of the last of them
}

// allTaken says whether the answer names no error at all, without decoding the rest of it.
func allTaken(reply []byte) bool {
	head := reply[:min(len(reply), 64)]
	return bytes.Contains(head, []byte(`"errors":false`))
}

// readReply sorts the items of an answer. An error speaks of the whole request.
func readReply(reply []byte, index []int) (outcome, error) {
	var out outcome
	if allTaken(reply) {
		return out, nil
	}
	var answer struct {
		Items []map[string]bulkItem `json:"items"`
	}
	if err := json.Unmarshal(reply, &answer); err != nil {
		return out, fmt.Errorf("decode bulk answer: %w", err)
	}
	if len(answer.Items) != len(index) {
		return out, fmt.Errorf("bulk answer has %d items, want %d", len(answer.Items), len(index))
	}
	for i, actions := range answer.Items {
		for _, item := range actions {
			if err := out.sort(index[i], item); err != nil {
				return out, err
			}
		}
	}
	return out, nil
}

// sort puts one item where it belongs. An error speaks of the index or the rights, and so of the whole request.
func (o *outcome) sort(doc int, item bulkItem) error {
	if item.Error == nil {
		return nil
	}
	if item.Status == http.StatusConflict {
		o.newer = append(o.newer, doc)
		return nil
	}
	err := &statusError{status: item.Status, kind: item.Error.Type, reason: item.Error.text()}
	if item.Status == http.StatusTooManyRequests || item.Status >= 500 {
		o.again, o.refused = append(o.again, doc), err
		return nil
	}
	if item.Status == http.StatusBadRequest && err.kind != "index_closed_exception" {
		err := projectors.Permanentf("elasticsearch refused the document: %w", err)
		o.failures = append(o.failures, projectors.Failure{Index: doc, Err: err})
		return nil
	}
	return classify(err)
}
