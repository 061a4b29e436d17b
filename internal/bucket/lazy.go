package bucket

import (
	"context"
	"sync"

	"gocloud.dev/blob"
)

// Lazy is a store that is opened when it is first needed, and tried again when it could not be. It is safe for concurrent use.
type Lazy struct {
	address, dir string

	mu     sync.Mutex
	bucket *blob.Bucket
}

// NewLazy is the store of a URL; relative folders begin at dir. Nothing is opened yet.
func NewLazy(address, dir string) *Lazy { return &Lazy{address: address, dir: dir} }

// Bucket is the store. An error may pass.
func (l *Lazy) Bucket(ctx context.Context) (*blob.Bucket, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.bucket == nil {
		// What the store needs to be used outlives this call.
		b, err := Open(context.WithoutCancel(ctx), l.address, l.dir)
		if err != nil {
			return nil, err
		}
		l.bucket = b
	}
	return l.bucket, nil
}

// Close closes the store, if it was opened.
func (l *Lazy) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.bucket == nil {
		return nil
	}
	b := l.bucket
	l.bucket = nil
	return b.Close()
}
