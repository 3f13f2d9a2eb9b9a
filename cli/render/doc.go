// Package render renders templates into files, from the answers of an agent.
//
// Templates are Go's (text/template), with functions like those of consul-template; see
// [Parse]. The functions return values in a fixed order, so that a file changes only when
// the fleet does.
//
//	t, err := render.Parse("nginx.ctmpl", text)
//	content, err := t.Execute(ctx, source)
//	changed, err := render.Write("/etc/nginx/upstream.conf", content)
//
// A [Runner] runs the command that follows a change of a file.
package render
