package parse

import (
	"fmt"
	"strings"
	"testing"
)

func TestTokens(t *testing.T) {
	for src, want := range map[string]string{
		`exec.uid == 0`:            `1:exec.uid 8:= 8:= 4:0`,
		`a =~ ~"x y" # z`:          `1:a 8:= 8:~ 6:x y 9:# z`,
		"a == \"open\nb != 5s":     `1:a 8:= 8:= 10:"open 1:b 8:! 8:= 5:5s`,
		`${a.b} in ${c && %{d.e}`:  `2:a.b 1:in 10:${c 8:& 8:& 3:d.e`,
		`x in [10.0.0.0/8, ::1]`:   `1:x 1:in 8:[ 7:10.0.0.0/8 8:, 7:::1 8:]`,
		"a == \"open\nb == \"x\"":  `1:a 8:= 8:= 10:"open 1:b 8:= 8:= 6:x`,
		`'é' ü`:                    `10:' 10:é 10:' 10:ü`,
		`process.ancestors[A].pid`: `1:process.ancestors[A].pid`,
		"// a\n1":                  "9:// a 4:1",
		"":                         "",
	} {
		var got []string
		for _, k := range Tokens(src) {
			got = append(got, fmt.Sprintf("%d:%s", k.Kind, k.Text))
		}
		if g := strings.Join(got, " "); g != want {
			t.Errorf("%q: %s, want %s", src, g, want)
		}
	}
}

// FuzzTokens holds that words lie in the text one behind the other, and that
// nothing but white space is between them.
func FuzzTokens(f *testing.F) {
	f.Add(`exec.file.name == "a" && ${x} in [1, ~"b"`)
	f.Add("0x 1mss r\"\\\" %{a[}] ::1/ é\xff")
	f.Fuzz(func(t *testing.T, src string) {
		end := 0
		tokens := Tokens(src)
		for _, k := range tokens {
			if k.At.Start < end || k.At.End <= k.At.Start || k.At.End > len(src) || k.Kind == 0 {
				t.Fatalf("%+v after %d of %d bytes", k, end, len(src))
			}
			if strings.Trim(src[end:k.At.Start], " \t\r\n") != "" {
				t.Fatalf("%q is no part of a word", src[end:k.At.Start])
			}
			end = k.At.End
		}
		if len(tokens) < maxTokens && len(src) <= MaxBytes && strings.Trim(src[end:], " \t\r\n") != "" {
			t.Fatalf("%q is no part of a word", src[end:])
		}
	})
}
