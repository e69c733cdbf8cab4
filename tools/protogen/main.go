// Command protogen compiles proto/ and runs code generators over it, without
// protoc: the compiler is a Go library, so its version is the one in go.mod.
//
//	go run ./tools/protogen                       # Go, into internal/gen
//	go run ./tools/protogen -plugin P -out DIR    # any other protoc plugin
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

func main() {
	plugin := flag.String("plugin", "", "plugin to run instead of the Go ones")
	out := flag.String("out", "internal/gen", "folder for the plugin's files")
	opt := flag.String("opt", "", "parameter for the plugin")
	flag.Parse()
	if err := run(*plugin, *out, *opt); err != nil {
		fmt.Fprintln(os.Stderr, "protogen:", err)
		os.Exit(1)
	}
}

func run(plugin, out, opt string) error {
	req, err := request()
	if err != nil {
		return err
	}
	if plugin != "" {
		return generate(req, []string{plugin}, out, opt)
	}
	const module = "module=github.com/clewsec/clew/internal/gen"
	if err := generate(req, []string{"go", "tool", "protoc-gen-go"}, out, module); err != nil {
		return err
	}
	return generate(req, []string{"go", "tool", "protoc-gen-connect-go"}, out, module+",simple=false")
}

// request compiles every file below proto/ and asks for all of them.
func request() (*pluginpb.CodeGeneratorRequest, error) {
	files, err := filepath.Glob("proto/clew/v1/*.proto")
	if err != nil {
		return nil, err
	}
	for i := range files {
		files[i] = filepath.ToSlash(strings.TrimPrefix(files[i], "proto/"))
	}
	sort.Strings(files)
	c := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{"proto"}}),
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	compiled, err := c.Compile(context.Background(), files...)
	if err != nil {
		return nil, err
	}
	req := &pluginpb.CodeGeneratorRequest{FileToGenerate: files}
	seen := map[string]bool{}
	var add func(f protoreflect.FileDescriptor)
	add = func(f protoreflect.FileDescriptor) {
		if seen[f.Path()] {
			return
		}
		seen[f.Path()] = true
		for i := range f.Imports().Len() {
			add(f.Imports().Get(i).FileDescriptor)
		}
		req.ProtoFile = append(req.ProtoFile, toProto(f))
	}
	for _, f := range compiled {
		add(f)
	}
	return req, nil
}

// toProto keeps the comments, which the plugins copy into what they write.
func toProto(f protoreflect.FileDescriptor) *descriptorpb.FileDescriptorProto {
	if r, ok := f.(interface {
		FileDescriptorProto() *descriptorpb.FileDescriptorProto
	}); ok {
		return r.FileDescriptorProto()
	}
	return protodesc.ToFileDescriptorProto(f)
}

func generate(req *pluginpb.CodeGeneratorRequest, argv []string, out, opt string) error {
	r := proto.Clone(req).(*pluginpb.CodeGeneratorRequest)
	if opt != "" {
		r.Parameter = proto.String(opt)
	}
	in, err := proto.Marshal(r)
	if err != nil {
		return err
	}
	var stdout bytes.Buffer
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(argv, " "), err)
	}
	var resp pluginpb.CodeGeneratorResponse
	if err := proto.Unmarshal(stdout.Bytes(), &resp); err != nil {
		return fmt.Errorf("%s: answer: %w", strings.Join(argv, " "), err)
	}
	if resp.Error != nil {
		return fmt.Errorf("%s: %s", strings.Join(argv, " "), resp.GetError())
	}
	for _, f := range resp.File {
		path := filepath.Join(out, filepath.FromSlash(f.GetName()))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(f.GetContent()), 0o644); err != nil {
			return err
		}
	}
	return nil
}
