package runtimes

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protowire"
)

// containerd and the Container Runtime Interface speak gRPC. The handful of
// messages that are needed are read and written field by field: the runtimes'
// own client libraries would be the larger part of this program.

// A message is one in its encoded form.
type message []byte

// str appends a field of text, left out when empty.
func (m message) str(n protowire.Number, s string) message {
	if s == "" {
		return m
	}
	return protowire.AppendString(protowire.AppendTag(m, n, protowire.BytesType), s)
}

// sub appends a message within the message.
func (m message) sub(n protowire.Number, s message) message {
	return protowire.AppendBytes(protowire.AppendTag(m, n, protowire.BytesType), s)
}

var errMessage = errors.New("reply is not a message")

// fields calls f for each field: b is the content of a text or a message, v
// the value of a number. Fields of other shapes are skipped.
func (m message) fields(f func(n protowire.Number, b message, v uint64) error) error {
	for len(m) > 0 {
		n, typ, size := protowire.ConsumeTag(m)
		if size < 0 {
			return errMessage
		}
		m = m[size:]
		switch typ {
		case protowire.BytesType:
			b, size := protowire.ConsumeBytes(m)
			if size < 0 {
				return errMessage
			}
			m = m[size:]
			if err := f(n, b, 0); err != nil {
				return err
			}
		case protowire.VarintType:
			v, size := protowire.ConsumeVarint(m)
			if size < 0 {
				return errMessage
			}
			m = m[size:]
			if err := f(n, nil, v); err != nil {
				return err
			}
		default:
			size := protowire.ConsumeFieldValue(n, typ, m)
			if size < 0 {
				return errMessage
			}
			m = m[size:]
		}
	}
	return nil
}

// entry puts one entry of a map of texts into a map, up to a limit.
func (m message) entry(into *map[string]string) error {
	var k, v string
	err := m.fields(func(n protowire.Number, b message, _ uint64) error {
		switch n {
		case 1:
			k = string(b)
		case 2:
			v = string(b)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if *into == nil {
		*into = map[string]string{}
	}
	if len(*into) < 4*maxLabels {
		(*into)[k] = v
	}
	return nil
}

// raw is a codec of messages that are encoded already.
type raw struct{}

func (raw) Name() string { return "proto" }

func (raw) Marshal(m any) ([]byte, error) {
	b, ok := m.(*message)
	if !ok {
		return nil, fmt.Errorf("a %T is no message", m)
	}
	return *b, nil
}

func (raw) Unmarshal(data []byte, m any) error {
	b, ok := m.(*message)
	if !ok {
		return fmt.Errorf("a %T is no message", m)
	}
	*b = append((*b)[:0], data...)
	return nil
}

// A grpcClient calls the services behind one socket.
type grpcClient struct{ client *http.Client }

func newGRPC(path string) *grpcClient {
	return &grpcClient{&http.Client{Transport: transport(path, true)}}
}

func (g *grpcClient) method(procedure string) *connect.Client[message, message] {
	return connect.NewClient[message, message](g.client, "http://localhost"+procedure,
		connect.WithGRPC(), connect.WithCodec(raw{}), connect.WithReadMaxBytes(maxReply), connect.WithSendCompression(""))
}

// call makes one call. header is a name and a value, or nothing.
func (g *grpcClient) call(ctx context.Context, procedure string, req message, header ...string) (message, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	r := connect.NewRequest(&req)
	if len(header) == 2 {
		r.Header().Set(header[0], header[1])
	}
	resp, err := g.method(procedure).CallUnary(ctx, r)
	switch {
	case connect.CodeOf(err) == connect.CodeNotFound:
		return nil, ErrUnknown
	case err != nil:
		return nil, err
	}
	return *resp.Msg, nil
}
