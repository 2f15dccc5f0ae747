# A client of matfn for Julia 1.9 or newer: its standard library and the package JSON.
#
#   using .Matfn; Matfn.call("inv_root", (a = A,), (r = 4,)).outputs["x"]
#   julia matfn.jl inv_root a=A.csv r=4 > X.csv
module Matfn

using Base64, DelimitedFiles, Downloads, JSON

"""What the service refused: `problem` has its `code`, `detail`, `hint` and `request_id`."""
struct Problem <: Exception
    problem::Dict{String,Any}
end

Base.showerror(io::IO, e::Problem) = print(io, e.problem["code"], ": ", e.problem["detail"], "; ", something(e.problem["hint"], ""))

"""
    call(name, inputs, params=(;); options=(;), url, key, tries=5)

Calls a function of the service, with arrays of real numbers by name, batch dimensions first. Returns `outputs`, arrays of
Float64 by name, and `certificates`, one for each matrix. Throws `Problem` where the service refuses.
"""
function call(name, inputs, params=(;); options=(;), url=get(ENV, "MATFN_URL", "http://127.0.0.1:8000"), key=get(ENV, "MATFN_API_KEY", ""), tries=5)
    body = JSON.json((inputs=map(encoded, inputs), params=params, options=options))
    headers = ["Content-Type" => "application/json"]
    isempty(key) || push!(headers, "Authorization" => "Bearer $key")
    while true
        received = IOBuffer()
        response = Downloads.request("$url/v1/$name"; method="POST", headers, input=IOBuffer(body), output=received)
        answer = JSON.parse(String(take!(received)))
        response.status == 200 && return (outputs=Dict(k => decoded(v) for (k, v) in answer["outputs"]), certificates=answer["certificates"])
        tries -= 1
        (tries < 1 || !haskey(answer, "retry_after_ms")) && throw(Problem(answer))
        sleep(answer["retry_after_ms"] / 1000) # every call may be repeated
    end
end

# Julia stores columns one after the other, the service rows: the dimensions go in reverse.
encoded(a::AbstractArray) = (
    dtype="float64", shape=size(a), data=base64encode(htol.(Float64.(permutedims(a, ndims(a):-1:1)))))

function decoded(tensor)
    shape = Tuple(Int.(tensor["shape"]))
    numbers = ltoh.(reinterpret(Float64, base64decode(tensor["data"])))
    return permutedims(reshape(numbers, reverse(shape)), length(shape):-1:1)
end

function main(name, words...)
    pairs = [split(word, "="; limit=2) for word in words]
    read(path) = (rows = readdlm(path, ','); size(rows, 1) > 1 ? rows : vec(rows))
    inputs = (; (Symbol(k) => read(v) for (k, v) in pairs if endswith(v, ".csv"))...)
    params = (; (Symbol(k) => something(tryparse(Int, v), tryparse(Float64, v), tryparse(Bool, v), v) for (k, v) in pairs if !endswith(v, ".csv"))...)
    outputs, certificates = call(name, inputs, params)
    for (output, x) in outputs
        println(stderr, output, " ", certificates[1]["outcome"], " ", certificates[1]["error_estimate"])
        writedlm(stdout, ndims(x) < 2 ? permutedims(vec(x)) : x, ',')
    end
end

end

abspath(PROGRAM_FILE) == @__FILE__() && Matfn.main(ARGS...)
