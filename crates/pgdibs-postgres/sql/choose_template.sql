-- The template of a request that names none; see the function. $1 pool, $2 run or null, $3 instance of this daemon
select of_run, "current", others from template_choice($1, $2, $3)
