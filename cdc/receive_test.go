package cdc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"pgregory.net/rapid"
)

func frame(kind byte, body []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(4+len(body))), body...)
}

// However the network cuts the stream, the receiver hands over the same frames, whole, and never touches again
// the memory that it handed over.
func TestReceiverKeepsFramesWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var stream []byte
		var want [][]byte
		for i := range rapid.IntRange(0, 40).Draw(t, "frames") {
			size := rapid.OneOf(rapid.IntRange(0, 200), rapid.IntRange(0, 2*chunkSize)).Draw(t, "size")
			body := bytes.Repeat([]byte{byte(i)}, size)
			want = append(want, body)
			stream = append(stream, frame('d', body)...)
		}
		left := stream
		r := receiver{read: func(p []byte) (int, error) {
			if len(left) == 0 {
				return 0, io.EOF
			}
			most := min(len(p), len(left))
			n := min(most, rapid.OneOf(rapid.IntRange(1, 16), rapid.IntRange(1, 1<<20)).Draw(t, "read"))
			copy(p, left[:n])
			left = left[n:]
			return n, nil
		}}
		var segments [][]byte
		for {
			frames, err := r.next()
			if len(frames) > 0 {
				segments = append(segments, frames)
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		var got [][]byte
		for _, s := range segments {
			for len(s) > 0 {
				kind, body, rest := splitFrame(s)
				if kind != 'd' {
					t.Fatalf("kind %q", kind)
				}
				got, s = append(got, body), rest
			}
		}
		if len(got) != len(want) {
			t.Fatalf("%d frames, want %d", len(got), len(want))
		}
		for i := range got {
			if !bytes.Equal(got[i], want[i]) {
				t.Fatalf("frame %d differs", i)
			}
		}
	})
}

func TestReceiverRefusesImpossibleLengths(t *testing.T) {
	for _, length := range []uint32{0, 3, 1<<30 + 1, 1<<32 - 1} {
		good := frame('d', []byte("x"))
		input := append(good, binary.BigEndian.AppendUint32([]byte{'d'}, length)...)
		r := receiver{read: bytes.NewReader(input).Read}
		frames, err := r.next()
		if !errors.Is(err, ErrProtocol) || !bytes.Equal(frames, good) {
			t.Errorf("length %d: %q, %v; want the frame before it and ErrProtocol", length, frames, err)
		}
	}
}

func TestWireDoesNotReadAhead(t *testing.T) {
	w := &wire{r: bytes.NewReader([]byte("startup stream"))}
	head := make([]byte, 100)
	if n, err := io.ReadAtLeast(w, head, 8); n != 8 || err != nil {
		t.Fatalf("read %d bytes, %v: the frontend would hold bytes of the stream", n, err)
	}
	rest := make([]byte, 100)
	if n, err := w.stream(rest); string(rest[:n]) != "stream" || err != nil {
		t.Errorf("the stream begins with %q, %v", rest[:n], err)
	}
	if n, err := w.stream(rest); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("then %d, %v", n, err)
	}
}

func TestQueueIsBounded(t *testing.T) {
	q := newQueue(100)
	stop := make(chan struct{})
	big := make([]byte, 500)
	if !q.push(stop, big) {
		t.Fatal("an empty queue refused a segment")
	}
	pushed := make(chan bool)
	go func() { pushed <- q.push(stop, []byte("second")) }()
	select {
	case <-pushed:
		t.Fatal("a full queue took a segment")
	default:
	}
	<-q.ready
	if got, err := q.take(nil); len(got) != 1 || len(got[0]) != 500 || err != nil {
		t.Fatalf("took %d segments, %v", len(got), err)
	}
	if !<-pushed {
		t.Fatal("push was stopped")
	}
	q.close(io.EOF)
	<-q.ready
	if got, err := q.take(nil); len(got) != 1 || string(got[0]) != "second" || err != nil {
		t.Fatalf("took %q, %v: what was received before the end comes first", got, err)
	}
	if got, err := q.take(nil); len(got) != 0 || !errors.Is(err, io.EOF) {
		t.Fatalf("took %q, %v, want the cause of the end", got, err)
	}
	close(stop)
	q.push(stop, big)
	if q.push(stop, big) {
		t.Error("a stopped push reported success")
	}
}
