"""Templates and what Go's text/template (1.26) makes of them, for tests of gotemplate."""

from __future__ import annotations

# ruff: noqa: E501

# Over a map.
MAP_OUTPUTS = [
    ("{{.Name}}", "x"),
    (
        '{{.Labels.foo}}|{{index .Labels "a.b"}}|{{index .Labels "zz"}}|{{.Labels.zz}}',
        "bar|dot||<no value>",
    ),
    (
        "{{.}}",
        "map[Big:1e+21 Empty:[] F:1.5 Fa:false Labels:map[a.b:dot e: foo:bar] Layers:[l1 l2] M:map[a:1 b:map[c:[1 2]] n:<nil>] Mixed:[1 a <nil> map[k:1]] N:5 Name:x Neg:-3 Nil:<nil> Q:x<y>\"&'é\n Small:1.5e-07 T:true]",
    ),
    (
        "{{json .Labels}} {{json .Layers}} {{json .Name}}",
        '{"a.b":"dot","e":"","foo":"bar"} ["l1","l2"] "x"',
    ),
    ("{{index .Layers 0}} {{index .Layers 1}}", "l1 l2"),
    ("{{range .Layers}}{{.}},{{else}}none{{end}}", "l1,l2,"),
    ("{{range $i, $e := .Layers}}{{$i}}={{$e}} {{end}}", "0=l1 1=l2 "),
    ("{{range $k, $v := .Labels}}{{$k}}={{$v}};{{end}}", "a.b=dot;e=;foo=bar;"),
    ("{{range $x := .Layers}}{{$x}}{{end}}", "l1l2"),
    ("{{if .Name}}yes{{else}}no{{end}}{{if .Nope}}a{{else if .Os}}b{{else}}c{{end}}", "yesc"),
    ('{{if eq .Name "x"}}X{{else if eq .Name "n"}}N{{end}}', "X"),
    ("{{with .Labels}}{{.foo}}{{end}}{{with .Name}}{{.}}{{else}}z{{end}}", "barx"),
    ("{{with $l := .Labels}}{{$l.foo}} {{$.Name}}{{end}}", "bar x"),
    ('{{$x := .Name}}{{$x}}{{$x = "q"}}{{$x}}', "xq"),
    ('{{.Name | printf "%s-%d" "a" }} {{printf "%q" .Layers | len}}', "a-%!d(string=x) 11"),
    ('{{(index .Layers 0) | upper}} {{(index .Labels "foo")}}', "L1 bar"),
    ("a {{- /* comment */ -}} b {{/* c */}} c", "ab  c"),
    (" x  {{- .Name -}}  y", " xxy"),
    (
        '{{and .Name "b"}} {{or "" .Name}} {{not .Name}} {{and 0 1}} {{or 0 ""}} {{and 1 0 3}}',
        "b x false 0  0",
    ),
    ("{{len .Layers}} {{len .Labels}} {{len .Name}}", "2 3 1"),
    ("{{slice .Layers 1}} {{slice .Name 0 1}} {{slice .Layers 0 1}}", "[l2] x [l1]"),
    (
        '{{print 1 2 "a" 3 "b" "c" 4 5}}|{{println "x" 1 true}}|{{print nil}}',
        "1 2a3bc4 5|x 1 true\n|<nil>",
    ),
    (
        '{{printf "%v %s %q %d %5d|%-5d|%05d %x %X %o %b %c %U %t" "a" "b" "c" 1 2 3 4 255 255 8 5 65 66 true}}',
        'a b "c" 1     2|3    |00004 ff FF 10 101 A U+0042 true',
    ),
    (
        '{{printf "%d %s %z %d" "a" 1 2}} {{printf "%d" 1 2}} {{printf "100%%"}} {{printf "%"}}',
        "%!d(string=a) %!s(int=1) %!z(int=2) %!d(MISSING) 1%!(EXTRA int=2) 100% %!(NOVERB)",
    ),
    (
        '{{printf "%6.2f|%g|%e|%v|%8s|%-8s|%.2s|%+d|% d|%#x|%#v|%#v" 3.14159 1e21 1.5 1e6 "ab" "ab" "abc" 5 5 255 "a" .Layers}}',
        '  3.14|1e+21|1.500000e+00|1e+06|      ab|ab      |ab|+5| 5|0xff|"a"|[]string{"l1", "l2"}',
    ),
    (
        '{{printf "%[2]d %[1]d %*d" 1 2 5}} {{printf "%[2]d %[1]d" 1 2}} {{printf "%*d" 5 1}}',
        "2 1  5 2 1     1",
    ),
    (
        '{{printf "%T %T %T %T %T" 1 "a" 1.5 true nil}} {{printf "%T %T" .Layers .Labels}}',
        "int string float64 bool <nil> []string map[string]string",
    ),
    (
        '{{printf "%v %+v %#v" .Labels .Layers .Labels}}',
        'map[a.b:dot e: foo:bar] [l1 l2] map[string]string{"a.b":"dot", "e":"", "foo":"bar"}',
    ),
    (
        '{{html "<a&\\"\'>"}} {{js "it\'s <\\"=&>\\n"}} {{urlquery "a b&c/é~"}}',
        "&lt;a&amp;&#34;&#39;&gt; it\\'s \\u003C\\\"\\u003D\\u0026\\u003E\\u000A a+b%26c%2F%C3%A9~",
    ),
    (
        '{{eq 1 1}} {{eq 1 2 3 1}} {{ne "a" "b"}} {{lt 1 2}} {{le 2 2}} {{gt "b" "a"}} {{ge 1.5 1.0}}',
        "true true true true true true true",
    ),
    (
        '{{join .Layers ","}} {{lower "ABC"}} {{upper "abc"}} {{title "hello world foo-bar it\'s"}} {{split "a,b" ","}} {{pad "x" 1 2}}| {{truncate "abcdef" 3}}',
        "l1,l2 abc ABC Hello World Foo-Bar It'S [a b]  x  | abc",
    ),
    (
        "{{\"str\\t\\\"q\\\" \\u00e9\"}} {{`raw\\n`}} {{'a'}} {{'\\n'}} {{12}} {{0x1F}} {{1.5}} {{1e3}} {{true}} {{-5}} {{0b11}} {{0o17}} {{1_000}}",
        'str\t"q" é raw\\n 97 10 12 31 1.5 1000 true -5 3 15 1000',
    ),
    ("{{.Foo}}", "<no value>"),
    ("{{range 3}}{{.}}{{end}} {{range $i := 2}}{{$i}}{{end}}", "012 01"),
    ("{{index .Name 0}}", "120"),
    ("{{.Name | }}", "x"),
    ('{{range .Layers}}{{if eq . "l2"}}{{break}}{{end}}{{.}}{{end}}', "l1"),
    ('{{range .Layers}}{{if eq . "l1"}}{{continue}}{{end}}{{.}}{{end}}', "l2"),
    ('{{define "t"}}<{{.}}>{{end}}{{template "t" .Name}}{{template "t"}}', "<x><<no value>>"),
    ('{{block "b" .Name}}[{{.}}]{{end}}', "[x]"),
    ('{{.F}} {{printf "%v %6.2f %g" .F .F .F}}', "1.5 1.5   1.50 1.5"),
    ("line\ntwo {{.Foo.Bar}} x", "line\ntwo <no value> x"),
    ("{{range $i, $e := .Layers}}{{if $i}}, {{end}}{{$e}}{{end}}", "l1, l2"),
    ('{{ .Name }}{{"\\n"}}{{ .Os }}', "x\n<no value>"),
    ('{{printf "%s" .Nope}} {{printf "%v" .Nope}}', "%!s(<nil>) <nil>"),
    (
        "{{$.Name}} {{$}}",
        "x map[Big:1e+21 Empty:[] F:1.5 Fa:false Labels:map[a.b:dot e: foo:bar] Layers:[l1 l2] M:map[a:1 b:map[c:[1 2]] n:<nil>] Mixed:[1 a <nil> map[k:1]] N:5 Name:x Neg:-3 Nil:<nil> Q:x<y>\"&'é\n Small:1.5e-07 T:true]",
    ),
    ("{{range .Layers}}{{$.Name}}{{end}}", "xx"),
    ('{{if and .Name (eq .Os "linux")}}A{{end}}{{if or (not .Name) .Layers}}B{{end}}', "B"),
    ("{{with .Nope}}a{{else}}b{{end}}{{with .Nope}}a{{else with .Name}}c{{.}}{{end}}", "bcx"),
    (
        '{{printf "%s %d %v" .Layers .Layers .Layers}} {{printf "%q" .Labels}}',
        '[l1 l2] [%!d(string=l1) %!d(string=l2)] [l1 l2] map["a.b":"dot" "e":"" "foo":"bar"]',
    ),
    ("{{.Name -}}\n   x", "xx"),
    ("{{- 3 -}}", "3"),
    ("{{-3}}", "-3"),
    ('{{print "a" | print "b"}}', "ba"),
    (
        '{{printf "%v|%+v|%T" .LayersData .LayersData .Layers}} {{json .}}',
        '<nil>|<nil>|[]string {"Big":1e+21,"Empty":[],"F":1.5,"Fa":false,"Labels":{"a.b":"dot","e":"","foo":"bar"},"Layers":["l1","l2"],"M":{"a":1,"b":{"c":[1,2]},"n":null},"Mixed":[1,"a",null,{"k":1}],"N":5,"Name":"x","Neg":-3,"Nil":null,"Q":"x<y>\\"&\'é\\n","Small":1.5e-7,"T":true}',
    ),
    (
        '{{.Created}} {{.None}} {{.Any}} {{.Tag}}|{{printf "%v %s" .Created .None}}',
        "<no value> <no value> <no value> <no value>|<nil> %!s(<nil>)",
    ),
    ("{{range .LayersData}}{{.MIMEType}}:{{.Size}}:{{.Ann}}:{{len .Ann}} {{end}}", ""),
    (
        "{{.M.zz.yy}} {{.Mixed}} {{json .Mixed}} {{.Empty}} {{.Big}} {{.Small}} {{.T}} {{.Fa}} {{.Q}} {{json .Q}}",
        '<no value> [1 a <nil> map[k:1]] [1,"a",null,{"k":1}] [] 1e+21 1.5e-07 true false x<y>"&\'é\n "x<y>\\"&\'é\\n"',
    ),
    (
        '{{printf "%q %x %X % x %+q %#q" "aé\\n" "hi" "hi" "hi" "é" "raw"}} {{printf "%5t|%q|%c|%#U" true 65 65 65}}',
        "\"aé\\n\" 6869 6869 68 69 \"\\u00e9\" `raw`  true|'A'|A|U+0041 'A'",
    ),
    (
        '{{printf "%s" 5}} {{printf "%d" "x"}} {{printf "%d" 1.5}} {{printf "%t" 1}} {{printf "%s %s" "a"}} {{printf "%!"}}',
        "%!s(int=5) %!d(string=x) %!d(float64=1.5) %!t(int=1) a %!s(MISSING) %!!(MISSING)",
    ),
    (
        '{{printf "%08.3f|%-8.2f|%+.1e|%x" 3.14159 2.5 12345.678 "é"}} {{printf "%6q|%-6q|%06d|%+d" "a" "b" -5 -5}}',
        '0003.142|2.50    |+1.2e+04|c3a9    "a"|"b"   |-00005|-5',
    ),
    (
        '{{printf "%5v|%-5v|%5s" .Layers .Layers "é"}} {{printf "%03d %3c|" 7 65}}',
        "[   l1    l2]|[l1    l2   ]|    é 007   A|",
    ),
    (
        '{{printf "%.3g %.10g %g %v" 1234.5678 1234.5678 0.00001 100000.0}} {{print 1e20 1e21 1e-4 1e-5 123456789.0 0.1}}',
        "1.23e+03 1234.5678 1e-05 100000 1e+20 1e+21 0.0001 1e-05 1.23456789e+08 0.1",
    ),
    (
        "{{with $x := 5}}{{$x}}{{end}}{{range $i, $x := .Layers}}{{$i}}{{$x}}{{else}}{{$x}}{{end}}",
        "50l11l2",
    ),
    ("{{range $i, $_ := .Nope}}a{{else}}b{{end}} {{range .Nil}}x{{else}}y{{end}}", "b y"),
    (
        '{{if .Labels}}L{{end}}{{if .Empty}}E{{end}}{{if .F}}F{{end}}{{if 0}}0{{end}}{{if ""}}s{{end}}',
        "LF",
    ),
    (
        '{{"a" | printf "%s %s" "b"}} {{printf "%s" ("x" | upper)}} {{(printf "%d" 3) | printf "%s!"}}',
        "b a X 3!",
    ),
    ('{{ join .Nope "," }}', ""),
    ('{{truncate .Name 50}} {{pad .Name 2 2}}| {{pad "" 2 2}}|', "x   x  | |"),
    ('{{index .M "b" "c" 1}} {{index .Mixed 3 "k"}}', "2 1"),
    ('{{eq .Nil nil}} {{eq .Name .Name}} {{ne .Nope "x"}}', "true true true"),
    ('{{template "t" }}{{define "t"}}{{$}}{{end}}', "<no value>"),
    ("{{- /* c */ -}}", ""),
    ("  {{/* c */ -}}   x", "  x"),
    ("{{$x := 1}}{{if true}}{{$x = 2}}{{$y := 3}}{{end}}{{$x}}", "2"),
    ("{{$x := 1}}{{range .Layers}}{{$x = .}}{{end}}{{$x}}", "l2"),
    (
        '{{html .Nope}} {{js .Name .Os}} {{urlquery .Nope "a"}}',
        "&lt;no value&gt; x\\u003Cno value\\u003E %3Cno+value%3Ea",
    ),
    (
        '{{title "élan vital o\'neil x_y a1b"}}|{{split "abc" ""}}|{{split "" ","}}|{{len (split "a,b" ",")}}',
        "Élan Vital O'Neil X_y A1b|[a b c]|[]|2",
    ),
    ('{{printf "%v" nil}} {{print .Nil .Nope nil}}', "<nil> <nil> <nil> <nil>"),
    (
        '{{printf "%s" .Labels}} {{printf "%d" .M}} {{printf "%q" .Mixed}}',
        "map[a.b:dot e: foo:bar] map[%!d(string=a):1 %!d(string=b):map[%!d(string=c):[1 2]] %!d(string=n):<nil>] ['\\x01' \"a\" <nil> map[\"k\":'\\x01']]",
    ),
    (
        '{{.Labels | json}} {{.Labels.foo | json | printf "%s"}}',
        '{"a.b":"dot","e":"","foo":"bar"} "bar"',
    ),
    ("{{range $k, $v := .M}}{{$k}}:{{$v}} {{end}}", "a:1 b:map[c:[1 2]] n:<no value> "),
    ("{{range .Labels}}{{.}},{{end}}", "dot,,bar,"),
    (
        "{{.}}{{.}}{{json .Layers}}",
        'map[Big:1e+21 Empty:[] F:1.5 Fa:false Labels:map[a.b:dot e: foo:bar] Layers:[l1 l2] M:map[a:1 b:map[c:[1 2]] n:<nil>] Mixed:[1 a <nil> map[k:1]] N:5 Name:x Neg:-3 Nil:<nil> Q:x<y>"&\'é\n Small:1.5e-07 T:true]map[Big:1e+21 Empty:[] F:1.5 Fa:false Labels:map[a.b:dot e: foo:bar] Layers:[l1 l2] M:map[a:1 b:map[c:[1 2]] n:<nil>] Mixed:[1 a <nil> map[k:1]] N:5 Name:x Neg:-3 Nil:<nil> Q:x<y>"&\'é\n Small:1.5e-07 T:true]["l1","l2"]',
    ),
]

# Over a struct, where that differs from a map.
STRUCT_OUTPUTS = [
    ("{{.Name}}", "n"),
    (
        "{{.}}",
        "{n  sha256:ab [a b] 2023-01-02 03:04:05.1234 +0000 UTC <nil> map[a.b:dot foo:bar] linux [l1 l2] [{m 5 map[]} {m2 6 map[k:v]}] <nil> 1.5 true}",
    ),
    (
        "{{json .Labels}} {{json .Layers}} {{json .Name}}",
        '{"a.b":"dot","foo":"bar"} ["l1","l2"] "n"',
    ),
    ("{{range $k, $v := .Labels}}{{$k}}={{$v}};{{end}}", "a.b=dot;foo=bar;"),
    ('{{if eq .Name "x"}}X{{else if eq .Name "n"}}N{{end}}', "N"),
    ("{{with .Labels}}{{.foo}}{{end}}{{with .Name}}{{.}}{{else}}z{{end}}", "barn"),
    ("{{with $l := .Labels}}{{$l.foo}} {{$.Name}}{{end}}", "bar n"),
    ('{{$x := .Name}}{{$x}}{{$x = "q"}}{{$x}}', "nq"),
    ('{{.Name | printf "%s-%d" "a" }} {{printf "%q" .Layers | len}}', "a-%!d(string=n) 11"),
    (" x  {{- .Name -}}  y", " xny"),
    (
        '{{and .Name "b"}} {{or "" .Name}} {{not .Name}} {{and 0 1}} {{or 0 ""}} {{and 1 0 3}}',
        "b n false 0  0",
    ),
    ("{{len .Layers}} {{len .Labels}} {{len .Name}}", "2 2 1"),
    ("{{slice .Layers 1}} {{slice .Name 0 1}} {{slice .Layers 0 1}}", "[l2] n [l1]"),
    (
        '{{printf "%v %+v %#v" .Labels .Layers .Labels}}',
        'map[a.b:dot foo:bar] [l1 l2] map[string]string{"a.b":"dot", "foo":"bar"}',
    ),
    ("{{index .Name 0}}", "110"),
    ("{{.Name | }}", "n"),
    ('{{define "t"}}<{{.}}>{{end}}{{template "t" .Name}}{{template "t"}}', "<n><<no value>>"),
    ('{{block "b" .Name}}[{{.}}]{{end}}', "[n]"),
    ('{{ .Name }}{{"\\n"}}{{ .Os }}', "n\nlinux"),
    (
        "{{$.Name}} {{$}}",
        "n {n  sha256:ab [a b] 2023-01-02 03:04:05.1234 +0000 UTC <nil> map[a.b:dot foo:bar] linux [l1 l2] [{m 5 map[]} {m2 6 map[k:v]}] <nil> 1.5 true}",
    ),
    ("{{range .Layers}}{{$.Name}}{{end}}", "nn"),
    ('{{if and .Name (eq .Os "linux")}}A{{end}}{{if or (not .Name) .Layers}}B{{end}}', "AB"),
    (
        '{{printf "%s %d %v" .Layers .Layers .Layers}} {{printf "%q" .Labels}}',
        '[l1 l2] [%!d(string=l1) %!d(string=l2)] [l1 l2] map["a.b":"dot" "foo":"bar"]',
    ),
    ("{{.Name -}}\n   x", "nx"),
    (
        "{{range .LayersData}}{{.MIMEType}}:{{.Size}}:{{.Ann}}:{{len .Ann}} {{end}}",
        "m:5:map[]:0 m2:6:map[k:v]:1 ",
    ),
    ('{{truncate .Name 50}} {{pad .Name 2 2}}| {{pad "" 2 2}}|', "n   n  | |"),
    ('{{.Labels | json}} {{.Labels.foo | json | printf "%s"}}', '{"a.b":"dot","foo":"bar"} "bar"'),
    ("{{range .Labels}}{{.}},{{end}}", "dot,bar,"),
    (
        "{{.}}{{.}}{{json .Layers}}",
        '{n  sha256:ab [a b] 2023-01-02 03:04:05.1234 +0000 UTC <nil> map[a.b:dot foo:bar] linux [l1 l2] [{m 5 map[]} {m2 6 map[k:v]}] <nil> 1.5 true}{n  sha256:ab [a b] 2023-01-02 03:04:05.1234 +0000 UTC <nil> map[a.b:dot foo:bar] linux [l1 l2] [{m 5 map[]} {m2 6 map[k:v]}] <nil> 1.5 true}["l1","l2"]',
    ),
]

# Messages over a map.
MAP_ERRORS = [
    (
        "{{index .Layers 5}}",
        'template: inspect:1:2: executing "inspect" at <index .Layers 5>: error calling index: index out of range: 5',
    ),
    (
        '{{eq 1 "a"}}',
        'template: inspect:1:2: executing "inspect" at <eq 1 "a">: error calling eq: incompatible types for comparison: int and string',
    ),
    (
        "{{eq 1 1.0}}",
        'template: inspect:1:2: executing "inspect" at <eq 1 1.0>: error calling eq: incompatible types for comparison: int and float64',
    ),
    (
        "{{lt true false}}",
        'template: inspect:1:2: executing "inspect" at <lt true false>: error calling lt: invalid type for comparison',
    ),
    ("{{nil}}", 'template: inspect:1:2: executing "inspect" at <nil>: nil is not a command'),
    (
        "{{.Name.Foo}}",
        'template: inspect:1:7: executing "inspect" at <.Name.Foo>: can\'t evaluate field Foo in type interface {}',
    ),
    (
        "{{.Labels.foo.bar}}",
        'template: inspect:1:9: executing "inspect" at <.Labels.foo.bar>: can\'t evaluate field bar in type string',
    ),
    (
        "{{.Layers.foo}}",
        'template: inspect:1:9: executing "inspect" at <.Layers.foo>: can\'t evaluate field foo in type interface {}',
    ),
    ("{{.Foo", "template: inspect:1: unclosed action"),
    ("{{.Foo}", "template: inspect:1: bad character U+007D '}'"),
    ("{{if .Name}}x", "template: inspect:1: unexpected EOF"),
    ("{{end}}", "template: inspect:1: unexpected {{end}}"),
    ("{{else}}", "template: inspect:1: unexpected {{else}}"),
    ("{{foo .Name}}", 'template: inspect:1: function "foo" not defined'),
    ("{{$x}}", 'template: inspect:1: undefined variable "$x"'),
    ('{{"abc}}', "template: inspect:1: unterminated quoted string"),
    ("{{`abc}}", "template: inspect:1: unterminated raw quoted string"),
    (
        "{{range .Name}}{{.}}{{end}}",
        'template: inspect:1:8: executing "inspect" at <.Name>: range can\'t iterate over x',
    ),
    (
        "{{range .F}}{{end}}",
        'template: inspect:1:8: executing "inspect" at <.F>: range can\'t iterate over 1.5',
    ),
    (
        "{{index .Labels 1}}",
        'template: inspect:1:2: executing "inspect" at <index .Labels 1>: error calling index: value has type int; should be string',
    ),
    (
        '{{index .Layers "a"}}',
        'template: inspect:1:2: executing "inspect" at <index .Layers "a">: error calling index: cannot index slice/array with type string',
    ),
    (
        "{{index nil 0}}",
        'template: inspect:1:2: executing "inspect" at <index nil 0>: error calling index: index of untyped nil',
    ),
    (
        "{{len 3}}",
        'template: inspect:1:2: executing "inspect" at <len 3>: error calling len: len of type int',
    ),
    (
        "{{len}}",
        'template: inspect:1:2: executing "inspect" at <len>: wrong number of args for len: want 1 got 0',
    ),
    (
        "{{len .Name .Name}}",
        'template: inspect:1:2: executing "inspect" at <len>: wrong number of args for len: want 1 got 2',
    ),
    ("{{lower 5}}", 'template: inspect:1:8: executing "inspect" at <5>: expected string; found 5'),
    (
        "{{lower .Layers}}",
        'template: inspect:1:8: executing "inspect" at <.Layers>: wrong type for value; expected string; got []string',
    ),
    (
        '{{join .Name ","}}',
        'template: inspect:1:7: executing "inspect" at <.Name>: wrong type for value; expected []string; got string',
    ),
    ("{{printf 5}}", 'template: inspect:1:9: executing "inspect" at <5>: expected string; found 5'),
    (
        '{{.Name "a"}}',
        'template: inspect:1:2: executing "inspect" at <.Name>: Name is not a method but has arguments',
    ),
    (
        '{{"a" | .Name}}',
        'template: inspect:1:8: executing "inspect" at <.Name>: Name is not a method but has arguments',
    ),
    (
        "{{.Labels.foo 5}}",
        'template: inspect:1:9: executing "inspect" at <.Labels.foo>: foo is not a method but has arguments',
    ),
    ("{{5 | 6}}", "template: inspect:1: non executable command in pipeline stage 2"),
    (
        "{{1 2}}",
        'template: inspect:1:2: executing "inspect" at <1>: can\'t give argument to non-function 1',
    ),
    ("{{()}}", "template: inspect:1: missing value for parenthesized pipeline"),
    ("{{(.Name}}", "template: inspect:1: unclosed left paren"),
    ("{{.Name)}}", "template: inspect:1: unexpected right paren"),
    ("{{}}", "template: inspect:1: missing value for command"),
    ("{{| .Name}}", 'template: inspect:1: unexpected "|" in command'),
    ("{{@}}", 'template: inspect:1: unexpected "@" in command'),
    ("{{.Name@}}", "template: inspect:1: bad character U+0040 '@'"),
    ("{{1a}}", 'template: inspect:1: bad number syntax: "1a"'),
    ("{{/* unclosed", "template: inspect:1: unclosed comment"),
    ("{{/* x */ y}}", "template: inspect:1: comment ends before closing delimiter"),
    ("{{break}}", "template: inspect:1: {{break}} outside {{range}}"),
    (
        '{{template "nope"}}',
        'template: inspect:1:11: executing "inspect" at <{{template "nope"}}>: template "nope" not defined',
    ),
    (
        "line\ntwo {{index .Layers 7}}",
        'template: inspect:2:6: executing "inspect" at <index .Layers 7>: error calling index: index out of range: 7',
    ),
    (
        "{{(index .Layers 0).Foo}}",
        'template: inspect:1:17: executing "inspect" at <0>: can\'t evaluate field Foo in type string',
    ),
    (
        "{{call .Name}}",
        'template: inspect:1:2: executing "inspect" at <call .Name>: error calling call: non-function .Name of type string',
    ),
    (
        "{{eq .Layers .Layers}}",
        'template: inspect:1:2: executing "inspect" at <eq .Layers .Layers>: error calling eq: non-comparable type [l1 l2]: []string',
    ),
    (
        "{{eq .Name .Layers}}",
        'template: inspect:1:2: executing "inspect" at <eq .Name .Layers>: error calling eq: incompatible types for comparison: string and []string',
    ),
    (
        "{{not}}",
        'template: inspect:1:2: executing "inspect" at <not>: wrong number of args for not: want 1 got 0',
    ),
    (
        "{{and}}",
        'template: inspect:1:2: executing "inspect" at <and>: wrong number of args for and: want at least 1 got 0',
    ),
    (
        "{{slice .Layers 5}}",
        'template: inspect:1:2: executing "inspect" at <slice .Layers 5>: error calling slice: index out of range: 5',
    ),
    (
        "{{slice .Name 1 0}}",
        'template: inspect:1:2: executing "inspect" at <slice .Name 1 0>: error calling slice: invalid slice index: 1 > 0',
    ),
    ("{{$a, $b := .Layers}}", "template: inspect:1: too many declarations in command"),
    (
        "{{range $a, $b, $c := .Layers}}{{end}}",
        "template: inspect:1: too many declarations in range",
    ),
    ("{{if $x := .Name}}{{$x}}{{end}}{{$x}}", 'template: inspect:1: undefined variable "$x"'),
    ('{{"a""b"}}', 'template: inspect:1: unexpected "\\"b\\"" in operand'),
    ("{{3.}} {{.5}} {{1e400}}", 'template: inspect:1: illegal number syntax: "1e400"'),
    ("{{99999999999999999999}}", 'template: inspect:1: integer overflow: "99999999999999999999"'),
    ("{{nil.Foo}}", 'template: inspect:1: unexpected . after term "nil"'),
    ('{{"a".Foo}}', 'template: inspect:1: unexpected . after term "\\"a\\""'),
    (
        '{{(.Labels).foo}} {{(print "a").b}}',
        'template: inspect:1:27: executing "inspect" at <"a">: can\'t evaluate field b in type string',
    ),
    (
        '{{.Layers | join ","}}',
        'template: inspect:1:17: executing "inspect" at <",">: can\'t handle "," for arg of type []string',
    ),
    (
        "{{join .Layers}}",
        'template: inspect:1:2: executing "inspect" at <join>: wrong number of args for join: want 2 got 1',
    ),
    (
        '{{.M}} {{.M.b.c}} {{.M.n}} {{index .M "n"}} {{index .M "zz"}} {{.Nil}} {{.Nil.x}}',
        'template: inspect:1:77: executing "inspect" at <.Nil.x>: nil pointer evaluating interface {}.x',
    ),
    (
        "{{ lower .Nope }}",
        'template: inspect:1:9: executing "inspect" at <.Nope>: invalid value; expected string',
    ),
    (
        "{{ .Name | truncate 3 }}",
        'template: inspect:1:20: executing "inspect" at <3>: expected string; found 3',
    ),
    (
        '{{lt "a" 1}}',
        'template: inspect:1:2: executing "inspect" at <lt "a" 1>: error calling lt: incompatible types for comparison: string and int',
    ),
    (
        "{{lt .Layers 1}}",
        'template: inspect:1:2: executing "inspect" at <lt .Layers 1>: error calling lt: invalid type for comparison',
    ),
    (
        "{{eq}}",
        'template: inspect:1:2: executing "inspect" at <eq>: wrong number of args for eq: want at least 1 got 0',
    ),
    ("{{if}}x{{end}}", "template: inspect:1: missing value for if"),
    ("{{range}}x{{end}}", "template: inspect:1: missing value for range"),
    ("{{with}}x{{end}}", "template: inspect:1: missing value for with"),
    ("{{if true}}a{{else}}b{{else}}c{{end}}", "template: inspect:1: expected end; found {{else}}"),
    (
        "{{slice .Layers 0 5}}",
        'template: inspect:1:2: executing "inspect" at <slice .Layers 0 5>: error calling slice: index out of range: 5',
    ),
    (
        '{{slice "abc" 1 2 3}} ',
        'template: inspect:1:2: executing "inspect" at <slice "abc" 1 2 3>: error calling slice: cannot 3-index slice a string',
    ),
    ('{{ "\\x41\\101\\U0001F600" }} {{ "\\q" }}', "template: inspect:1: invalid syntax"),
    ("{{ '' }}", "template: inspect:1: invalid syntax"),
    ("{{ 'ab' }}", "template: inspect:1: malformed character constant: 'ab'"),
    ("{{.A.}}", "template: inspect:1: unexpected <.> in operand"),
    ("{{..}}", "template: inspect:1: unexpected <.> in operand"),
    (
        "{{.Name .Os}}",
        'template: inspect:1:2: executing "inspect" at <.Name>: Name is not a method but has arguments',
    ),
    (
        "{{not true false}}",
        'template: inspect:1:2: executing "inspect" at <not>: wrong number of args for not: want 1 got 2',
    ),
]

# Messages over a struct, where they differ.
STRUCT_ERRORS = [
    (
        "{{if .Name}}yes{{else}}no{{end}}{{if .Nope}}a{{else if .Os}}b{{else}}c{{end}}",
        'template: inspect:1:37: executing "inspect" at <.Nope>: can\'t evaluate field Nope in type main.Out',
    ),
    (
        "{{.Foo}}",
        'template: inspect:1:2: executing "inspect" at <.Foo>: can\'t evaluate field Foo in type main.Out',
    ),
    (
        "{{.Name.Foo}}",
        'template: inspect:1:7: executing "inspect" at <.Name.Foo>: can\'t evaluate field Foo in type string',
    ),
    (
        "{{.Layers.foo}}",
        'template: inspect:1:9: executing "inspect" at <.Layers.foo>: can\'t evaluate field foo in type []string',
    ),
    (
        "{{range .Name}}{{.}}{{end}}",
        'template: inspect:1:8: executing "inspect" at <.Name>: range can\'t iterate over n',
    ),
    (
        '{{.Name "a"}}',
        'template: inspect:1:2: executing "inspect" at <.Name>: Name has arguments but cannot be invoked as function',
    ),
    (
        '{{"a" | .Name}}',
        'template: inspect:1:8: executing "inspect" at <.Name>: Name has arguments but cannot be invoked as function',
    ),
    (
        "line\ntwo {{.Foo.Bar}} x",
        'template: inspect:2:10: executing "inspect" at <.Foo.Bar>: can\'t evaluate field Foo in type main.Out',
    ),
    (
        '{{printf "%s" .Nope}} {{printf "%v" .Nope}}',
        'template: inspect:1:14: executing "inspect" at <.Nope>: can\'t evaluate field Nope in type main.Out',
    ),
    (
        "{{with .Nope}}a{{else}}b{{end}}{{with .Nope}}a{{else with .Name}}c{{.}}{{end}}",
        'template: inspect:1:7: executing "inspect" at <.Nope>: can\'t evaluate field Nope in type main.Out',
    ),
    (
        "{{len .Nope}}",
        'template: inspect:1:6: executing "inspect" at <.Nope>: can\'t evaluate field Nope in type main.Out',
    ),
    (
        '{{.M}} {{.M.b.c}} {{.M.n}} {{index .M "n"}} {{index .M "zz"}} {{.Nil}} {{.Nil.x}}',
        'template: inspect:1:2: executing "inspect" at <.M>: can\'t evaluate field M in type main.Out',
    ),
    (
        "{{.M.zz.yy}} {{.Mixed}} {{json .Mixed}} {{.Empty}} {{.Big}} {{.Small}} {{.T}} {{.Fa}} {{.Q}} {{json .Q}}",
        'template: inspect:1:4: executing "inspect" at <.M.zz.yy>: can\'t evaluate field M in type main.Out',
    ),
    (
        "{{range $i, $_ := .Nope}}a{{else}}b{{end}} {{range .Nil}}x{{else}}y{{end}}",
        'template: inspect:1:18: executing "inspect" at <.Nope>: can\'t evaluate field Nope in type main.Out',
    ),
    (
        '{{if .Labels}}L{{end}}{{if .Empty}}E{{end}}{{if .F}}F{{end}}{{if 0}}0{{end}}{{if ""}}s{{end}}',
        'template: inspect:1:27: executing "inspect" at <.Empty>: can\'t evaluate field Empty in type main.Out',
    ),
    (
        "{{ lower .Nope }}",
        'template: inspect:1:9: executing "inspect" at <.Nope>: can\'t evaluate field Nope in type main.Out',
    ),
    (
        '{{ join .Nope "," }}',
        'template: inspect:1:8: executing "inspect" at <.Nope>: can\'t evaluate field Nope in type main.Out',
    ),
    (
        '{{index .M "b" "c" 1}} {{index .Mixed 3 "k"}}',
        'template: inspect:1:8: executing "inspect" at <.M>: can\'t evaluate field M in type main.Out',
    ),
    (
        '{{eq .Nil nil}} {{eq .Name .Name}} {{ne .Nope "x"}}',
        'template: inspect:1:5: executing "inspect" at <.Nil>: can\'t evaluate field Nil in type main.Out',
    ),
    (
        '{{html .Nope}} {{js .Name .Os}} {{urlquery .Nope "a"}}',
        'template: inspect:1:7: executing "inspect" at <.Nope>: can\'t evaluate field Nope in type main.Out',
    ),
    (
        '{{printf "%v" nil}} {{print .Nil .Nope nil}}',
        'template: inspect:1:28: executing "inspect" at <.Nil>: can\'t evaluate field Nil in type main.Out',
    ),
    (
        '{{printf "%s" .Labels}} {{printf "%d" .M}} {{printf "%q" .Mixed}}',
        'template: inspect:1:38: executing "inspect" at <.M>: can\'t evaluate field M in type main.Out',
    ),
    (
        "{{range $k, $v := .M}}{{$k}}:{{$v}} {{end}}",
        'template: inspect:1:18: executing "inspect" at <.M>: can\'t evaluate field M in type main.Out',
    ),
    (
        "{{.Name .Os}}",
        'template: inspect:1:2: executing "inspect" at <.Name>: Name has arguments but cannot be invoked as function',
    ),
]
