package views

import (
	"sync"
	"testing"
)

// One view is used by several projectors at once, each with its own composer.
func TestViewIsConcurrent(t *testing.T) {
	v := compileView(t, orderSummary)
	w := openShop(t, v)
	want := w.compose(v, "10")
	events := w.commit(w.update("customers", "1\x00", record{"name": "Ada"}), w.update("products", "8\x00", record{"sku": "W-9"}))
	after := w.compose(v, "10")
	if after == want {
		t.Fatal("the change shows nowhere")
	}
	s := w.snapshot()
	defer s.Close()
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			c := v.Composer()
			for range 50 {
				for _, ev := range events {
					if _, err := v.Affected(s, ev, func(key []byte) error {
						doc, err := c.Compose(s, key)
						if err == nil && string(doc.Key) == "10\x00" && string(doc.Body) != after {
							t.Errorf("document is %s", doc.Body)
						}
						return err
					}); err != nil {
						t.Error(err)
					}
				}
				c.Reset()
			}
		})
	}
	group.Wait()
}
