% A client of matfn for GNU Octave 7 or newer and for MATLAB, with the program curl and a POSIX shell.
%
%   answer = matfn('inv_root', struct('a', A), struct('r', 4)); answer.outputs.x
%
% inputs are vectors, matrices and arrays of doubles by name, batch dimensions first; a column is a vector. The answer
% has the outputs by name and one certificate for each matrix. What the service refuses is an error whose identifier has
% the code, such as matfn:not_positive. The address is MATFN_URL of the environment, the key MATFN_API_KEY.
function answer = matfn(name, inputs, params, options)
  if nargin < 3, params = struct(); end
  if nargin < 4, options = struct(); end
  call = struct('inputs', changed(inputs, @encoded), 'params', params, 'options', options);
  for tries = 1:5
    answer = posted(['/v1/' name], jsonencode(call));
    if ~isfield(answer, 'retry_after_ms'), break; end
    pause(answer.retry_after_ms / 1000); % every call may be repeated
  end
  if isfield(answer, 'code')
    hint = '';
    if isfield(answer, 'hint') && ~isempty(answer.hint), hint = ['; ' answer.hint]; end
    error(['matfn:' answer.code], '%s: %s%s', answer.code, answer.detail, hint);
  end
  answer.outputs = changed(answer.outputs, @decoded);
end

function answer = posted(path, text)
  url = getenv('MATFN_URL');
  if isempty(url), url = 'http://127.0.0.1:8000'; end
  body = tempname();
  file = fopen(body, 'w');
  fwrite(file, text);
  fclose(file);
  % the key is read by the shell, so that no list of processes shows it
  key = 'printf ''header = "Authorization: Bearer %s"\n'' "$MATFN_API_KEY" | ';
  [status, text] = system([key 'curl --silent --show-error --config - --header "Content-Type: application/json"' ...
    ' --data-binary @' body ' ' url path]);
  delete(body);
  if status ~= 0, error('matfn:unreachable', '%s', text); end
  answer = jsondecode(text);
end

function values = changed(values, change)
  names = fieldnames(values);
  for i = 1:numel(names)
    values.(names{i}) = change(values.(names{i}));
  end
end

% Columns are stored one after the other here, rows on the wire: the dimensions go in reverse.
function tensor = encoded(value)
  shape = size(value);
  if iscolumn(value), shape = numel(value); end
  rows = permute(double(value), ndims(value):-1:1);
  data = matlab.net.base64encode(typecast(rows(:)', 'uint8'));
  tensor = struct('dtype', 'float64', 'shape', {num2cell(shape)}, 'data', data);
end

function value = decoded(tensor)
  value = typecast(matlab.net.base64decode(tensor.data), 'double');
  shape = tensor.shape(:)';
  value = reshape(value, [fliplr(shape) 1 1]);
  if numel(shape) > 1
    value = permute(value, numel(shape):-1:1);
  end
end
