package httpapi

import (
	"errors"
	"net"
	"testing"
)

func TestConnectionsAreBounded(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := bound(inner, 2)
	for range 3 {
		c, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	first, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	second, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	accepted := make(chan error, 1)
	go func() {
		third, err := l.Accept()
		if err == nil {
			err = third.Close()
		}
		accepted <- err
	}()
	select {
	case err := <-accepted:
		t.Fatalf("a third connection was accepted beside two: %v", err)
	default:
	}
	if err := errors.Join(first.Close(), first.Close()); err == nil {
		t.Error("closed twice without a complaint")
	}
	if err := <-accepted; err != nil {
		t.Fatal(err)
	}
	go func() {
		_, err := l.Accept() // the third has left: this one waits for somebody to come
		accepted <- err
	}()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-accepted; !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after close: %v", err)
	}
}
