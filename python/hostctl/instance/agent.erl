%% The way into a live instance: a socket in its runtime directory, which answers to its own user alone.
%% The instance evaluates this when it has started. It must run on every Erlang from OTP 25 on.
%%
%% A request is one packet:  node | rpc EXPRESSION | connect NODE COOKIE
%% An answer is packets of   o OUTPUT | e ERROR | s STATUS, the last

Answer = fun
    Answer(Socket, {put_chars, Chars}) -> Answer(Socket, {put_chars, latin1, Chars});
    Answer(Socket, {put_chars, Encoding, Module, Function, Args}) ->
        Answer(Socket, {put_chars, Encoding, apply(Module, Function, Args)});
    Answer(Socket, {put_chars, Encoding, Chars}) ->
        case unicode:characters_to_binary(Chars, Encoding) of
            Text when is_binary(Text) -> gen_tcp:send(Socket, [$o, Text]), ok;
            _ -> {error, put_chars}
        end;
    Answer(Socket, {requests, Requests}) -> lists:foldl(fun(One, _) -> Answer(Socket, One) end, ok, Requests);
    Answer(_, {setopts, _}) -> ok;
    Answer(_, getopts) -> [{binary, true}, {encoding, unicode}];
    Answer(_, {get_geometry, _}) -> {error, enotsup};
    Answer(_, Request) when is_tuple(Request) -> eof;
    Answer(_, _) -> {error, request}
end.

Evaluate = fun(Expression) ->
    try 'Elixir.Code':eval_string(Expression, [], [{file, <<"rpc">>}]) of
        _ -> exit({status, "0", []})
    catch
        Class:Reason:Stack -> exit({status, "1", 'Elixir.Exception':format(Class, Reason, Stack)})
    end
end.

%% the process that has the socket is the group leader of the one that evaluates; it ends that one when nobody waits
Attend = fun Attend(Socket, Worker) ->
    receive
        {io_request, From, Reference, Request} ->
            From ! {io_reply, Reference, Answer(Socket, Request)},
            Attend(Socket, Worker);
        {'DOWN', _, process, Worker, {status, Status, Text}} ->
            gen_tcp:send(Socket, [$e, Text]),
            gen_tcp:send(Socket, [$s, Status]);
        {'DOWN', _, process, Worker, Reason} ->
            gen_tcp:send(Socket, [$e, io_lib:format("** (EXIT) ~tp", [Reason])]),
            gen_tcp:send(Socket, [$s, "1"]);
        {tcp_closed, Socket} -> exit(Worker, kill);
        {tcp_error, Socket, _} -> exit(Worker, kill)
    end
end.

%% the kernel says whose process has connected (Linux: SOL_SOCKET 1, SO_PEERCRED 17); the user owns this directory
Own = fun(Socket) ->
    {ok, Directory} = file:read_file_info(os:getenv("RELEASE_TMP")),
    case inet:getopts(Socket, [{raw, 1, 17, 12}]) of
        {ok, [{raw, 1, 17, <<_:4/binary, User:32/native, _/binary>>}]} -> User =:= element(13, Directory);
        _ -> false
    end
end.

Serve = fun(Socket) ->
    case Own(Socket) andalso gen_tcp:recv(Socket, 0, 30000) of
        {ok, <<"rpc ", Expression/binary>>} ->
            Leader = self(),
            {Worker, _} = spawn_monitor(fun() -> group_leader(Leader, self()), Evaluate(Expression) end),
            inet:setopts(Socket, [{active, once}]),
            Attend(Socket, Worker);
        {ok, <<"connect ", Rest/binary>>} ->
            [Node, Cookie] = [binary_to_atom(Word, utf8) || Word <- binary:split(Rest, <<" ">>)],
            erlang:set_cookie(Node, Cookie),
            Joined = net_kernel:hidden_connect_node(Node),
            gen_tcp:send(Socket, [$s, case Joined of true -> "0"; _ -> "1" end]);
        {ok, <<"node">>} ->
            gen_tcp:send(Socket, [$o, atom_to_binary(node(), utf8)]),
            gen_tcp:send(Socket, [$s, "0"]);
        _ -> ignored
    end,
    gen_tcp:close(Socket)
end.

Accept = fun Accept(Listening) ->
    case gen_tcp:accept(Listening) of
        {ok, Socket} ->
            Server = spawn(fun() -> receive begin_now -> Serve(Socket) end end),
            gen_tcp:controlling_process(Socket, Server),
            Server ! begin_now,
            Accept(Listening);
        {error, _} -> gen_tcp:close(Listening)
    end
end.

%% a migration or an `eval` has the same flags, and is no instance
case os:getenv("RELEASE_COMMAND") of
    "start" ->
        Path = filename:join(os:getenv("RELEASE_TMP"), "agent"),
        spawn(fun() ->
            file:delete(Path),
            {ok, Listening} = gen_tcp:listen(0, [{ifaddr, {local, Path}}, binary, {packet, 4}, {active, false}]),
            Accept(Listening)
        end);
    _ -> none
end.
